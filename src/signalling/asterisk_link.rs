//! One Asterisk's websocket: opened, written and read as the gateway orders, and requests on the way that
//! `asterisk_way` finds. No ARI is understood here.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::asterisk_rest::Answer;
use super::asterisk_way::{Taken, Turn, Way, text};
use super::clock;
use crate::ari::Asked;
use crate::config::AsteriskConfig;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the gateway wants of the connection.
#[derive(Debug)]
pub(super) enum Order {
    /// Open it, whatever there was before.
    Open,
    /// Pass this on.
    Ask(Asked),
    /// Drop it.
    Close,
}

/// What the connection tells the gateway.
#[derive(Debug)]
pub(super) enum News {
    /// It is open.
    Opened {
        /// Our address on it: the one that Asterisk reaches us by.
        local: IpAddr,
        /// Asterisk's.
        remote: IpAddr,
    },
    /// A message, and when it was read.
    Text(Instant, String),
    /// The answer to a request, where it doesn't come as a message.
    Answer(Answer),
    /// It is gone, or could not be made.
    Closed {
        /// Why, for operators.
        reason: String,
        /// There is no Asterisk at the other end.
        dead: bool,
    },
}

impl News {
    fn closed(reason: impl Into<String>) -> Self {
        Self::Closed {
            reason: reason.into(),
            dead: false,
        }
    }
}

/// An open connection.
struct Connection {
    socket: Socket,
    way: Way,
}

/// Runs one Asterisk's connection, until the gateway is gone.
pub(super) async fn run(
    config: AsteriskConfig,
    index: usize,
    mut orders: mpsc::Receiver<Order>,
    news: mpsc::Sender<(usize, News)>,
) {
    let mut link = None;
    loop {
        let (next, told) = match link.take() {
            None => match orders.recv().await {
                Some(Order::Open) => open(&config, &mut orders).await,
                Some(Order::Ask(_) | Order::Close) => (None, None),
                None => return,
            },
            Some(connection) => serve(connection, &mut orders).await,
        };
        link = next;
        if let Some(told) = told
            && news.send((index, told)).await.is_err()
        {
            return;
        }
    }
}

/// Opens it, unless that is ordered otherwise meanwhile.
async fn open(
    config: &AsteriskConfig,
    orders: &mut mpsc::Receiver<Order>,
) -> (Option<Connection>, Option<News>) {
    loop {
        let opened = tokio::select! {
            opened = tokio::time::timeout(HANDSHAKE, connect(config)) => opened,
            order = orders.recv() => match order {
                Some(Order::Open | Order::Ask(_)) => continue,
                Some(Order::Close) | None => return (None, None),
            },
        };
        return match opened {
            Ok(Ok(socket)) => {
                let (local, remote) = (local_address(&socket), remote_address(&socket));
                match begin(config, socket).await {
                    Ok(connection) => (Some(connection), Some(News::Opened { local, remote })),
                    Err(reason) => (None, Some(News::closed(reason))),
                }
            }
            Ok(Err(error)) => {
                let (reason, dead) = (in_words(&error), is_dead(&error));
                (None, Some(News::Closed { reason, dead }))
            }
            Err(_) => (None, Some(News::closed("no answer"))),
        };
    }
}

/// Does it say that there is no Asterisk? One that only keeps silent may be busy, and one that refuses us lives.
fn is_dead(error: &Error) -> bool {
    if let Error::Http(answer) = error {
        return answer.status().is_server_error();
    }
    !matches!(error, Error::Io(error) if error.kind() == ErrorKind::TimedOut)
}

/// Opens the websocket under the configuration's app name.
pub(super) async fn connect(config: &AsteriskConfig) -> Result<Socket, Error> {
    let mut request = config.websocket_url().into_client_request()?;
    let credentials = format!("{}:{}", config.user, config.password.expose());
    let mut header = tokio_tungstenite::tungstenite::http::HeaderValue::try_from(format!(
        "Basic {}",
        STANDARD.encode(credentials)
    ))
    .map_err(tokio_tungstenite::tungstenite::http::Error::from)?;
    header.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, header);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let (socket, _) = connect_async_with_config(request, Some(limits), true).await?;
    Ok(socket)
}

/// Finds out, where that isn't said, how requests get through.
async fn begin(config: &AsteriskConfig, mut socket: Socket) -> Result<Connection, String> {
    let way = Way::new(config).map_err(|error| error.to_string())?;
    if let Some(question) = way.question() {
        in_time(socket.send(Message::text(question))).await?;
    }
    Ok(Connection { socket, way })
}

/// The next thing that happens on an open connection.
async fn serve(
    mut connection: Connection,
    orders: &mut mpsc::Receiver<Order>,
) -> (Option<Connection>, Option<News>) {
    let Connection { socket, way } = &mut connection;
    let next = tokio::select! {
        message = socket.next() => match heard(way, message) {
            Ok(Heard::News(news)) => Ok(Some(news)),
            Ok(Heard::Waited(waited)) => send(socket, waited, orders).await.map(|()| None),
            Err(reason) => Err(reason),
        },
        order = orders.recv() => match order {
            Some(Order::Ask(asked)) => match way.take(asked) {
                Taken::Send(asked) => send(socket, vec![asked], orders).await.map(|()| None),
                Taken::Passed(answer) => Ok(answer.map(News::Answer)),
            },
            // Dropped: what is to be replaced or given up needs no farewell.
            Some(Order::Close) | None => return (None, None),
            Some(Order::Open) => Err("to be opened again".to_owned()),
        },
        turn = way.next() => match turn {
            Turn::Answer(answer) => Ok(Some(News::Answer(answer))),
            Turn::Ping => {
                let ping = socket.send(Message::Ping(Bytes::new()));
                in_time(ping).await.map(|()| None)
            }
            Turn::Dead => Err("it keeps silent".to_owned()),
            Turn::Nothing => Ok(None),
        },
    };
    match next {
        Ok(news) => (Some(connection), news),
        Err(reason) => (None, Some(News::closed(reason))),
    }
}

/// What came by the websocket.
enum Heard {
    News(News),
    /// Nothing for the gateway; these may go over the websocket now.
    Waited(Vec<Asked>),
}

/// Something came by the websocket, or its end.
fn heard(way: &mut Way, message: Option<Result<Message, Error>>) -> Result<Heard, String> {
    let now = clock::now();
    way.heard(now);
    match message {
        Some(Ok(Message::Text(text))) => Ok(match way.was_for_us(text.as_str()) {
            Some(waited) => Heard::Waited(waited),
            None => Heard::News(News::Text(now, text.as_str().to_owned())),
        }),
        Some(Ok(Message::Close(_))) | None => Err("closed".to_owned()),
        Some(Ok(_)) => Ok(Heard::Waited(Vec::new())),
        Some(Err(error)) => Err(in_words(&error)),
    }
}

/// Sends requests, and those that wait behind them in one go.
async fn send(
    socket: &mut Socket,
    first: Vec<Asked>,
    orders: &mut mpsc::Receiver<Order>,
) -> Result<(), String> {
    if first.is_empty() {
        return Ok(());
    }
    let all = async {
        for asked in first {
            socket.feed(Message::text(text(&asked))).await?;
        }
        for _ in 0..BURST {
            match orders.try_recv() {
                Ok(Order::Ask(asked)) => socket.feed(Message::text(text(&asked))).await?,
                Ok(Order::Close | Order::Open) => return Err(Error::ConnectionClosed),
                Err(_) => break,
            }
        }
        socket.flush().await
    };
    in_time(all).await
}

async fn in_time(sending: impl Future<Output = Result<(), Error>>) -> Result<(), String> {
    match tokio::time::timeout(SEND, sending).await {
        Ok(sent) => sent.map_err(|error| in_words(&error)),
        Err(_) => Err("it takes nothing any more".to_owned()),
    }
}

pub(super) fn local_address(socket: &Socket) -> IpAddr {
    let address = tcp(socket).and_then(|tcp| tcp.local_addr().ok());
    address.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// Unspecified where it isn't known.
fn remote_address(socket: &Socket) -> IpAddr {
    let address = tcp(socket).and_then(|tcp| tcp.peer_addr().ok());
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}

fn tcp(socket: &Socket) -> Option<&TcpStream> {
    match socket.get_ref() {
        MaybeTlsStream::Plain(tcp) => Some(tcp),
        MaybeTlsStream::Rustls(tls) => Some(tls.get_ref().0),
        _ => None,
    }
}

/// What an operator can act on.
pub(super) fn in_words(error: &Error) -> String {
    let Error::Http(answer) = error else {
        return error.to_string();
    };
    match answer.status().as_u16() {
        401 | 403 => "user or password is wrong (ari.conf)".to_owned(),
        404 => "there is no ARI at this address (is it enabled in ari.conf, and is the url right?)"
            .to_owned(),
        status => format!("HTTP status {status}"),
    }
}

/// Shorter than the patience of `ari`, so that the reason is told.
const HANDSHAKE: Duration = Duration::from_millis(2_500);
/// How long the kernel may refuse bytes.
const SEND: Duration = Duration::from_secs(5);
/// Everything that an Asterisk with 30,000 channels may say in one message.
const MESSAGE_MAX: usize = 16 << 20;
/// Messages sent before the socket is read again.
const BURST: usize = 64;
