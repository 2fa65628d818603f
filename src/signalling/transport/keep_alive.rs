//! Connections whose other end is gone without a word: its power failed, or a firewall on the way has forgotten them.
//! Nothing but a question tells, and the questions keep firewalls from forgetting.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Small messages leave at once, and a peer that is gone is noticed after a minute, whether there is something to be
/// sent or not.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let asking = TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(AGAIN)
        .with_retries(TIMES);
    socket.set_tcp_keepalive(&asking)?;
    socket.set_tcp_user_timeout(Some(UNHEARD))
}

/// Shorter than any firewall forgets a connection after.
const SILENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(10);
const TIMES: u32 = 3;
/// For so long what is sent may stay without an answer. The kernel gives an idle connection up by this too, from its last
/// word on and at the first question that is unanswered then (tcp(7)): all of them are to be asked.
const UNHEARD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn who_is_gone_is_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let stream = stream.unwrap();
        prepare(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), AGAIN);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), TIMES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNHEARD));
    }

    #[test]
    fn one_question_that_gets_lost_costs_no_connection() {
        assert!(UNHEARD >= SILENCE + AGAIN * TIMES);
    }
}
