//! REST over HTTP, for an Asterisk that doesn't have it over the websocket: connections that are kept, on each
//! one request after the other, so that those for one caller arrive in their order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use super::clock;
use super::transport::connector;
use crate::ari::{Asked, Request};
use crate::config::AsteriskConfig;

/// Connections side by side, and the requests that wait for theirs.
pub(super) struct Lanes {
    queues: Vec<mpsc::Sender<Asked>>,
    answers: mpsc::Receiver<Answer>,
    /// End with this.
    _tasks: JoinSet<()>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which.
    pub(super) id: u64,
    /// `None`: it found no way, or no answer came.
    pub(super) status: Option<u16>,
    /// What Asterisk says.
    pub(super) body: String,
}

/// One connection, opened when it is needed.
pub(super) struct Lane {
    place: Arc<Place>,
    open: Option<Open>,
}

struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    used_at: Instant,
    /// Ends with this.
    _driver: JoinSet<Result<(), hyper::Error>>,
}

type Message = hyper::Request<Full<Bytes>>;

/// Where Asterisk's HTTP server is, and who we are there.
struct Place {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    authority: HeaderValue,
    /// Before `/ari/`.
    path: String,
    authorization: HeaderValue,
}

impl Lanes {
    /// None of them connects before it has something to ask.
    pub(super) fn start(config: &AsteriskConfig) -> Result<Self, RestError> {
        let place = Arc::new(Place::new(config)?);
        let (told, answers) = mpsc::channel(ANSWERS);
        let (mut queues, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..=LANES {
            let (queue, waiting) = mpsc::channel(WAITING);
            queues.push(queue);
            tasks.spawn(work(Lane::new(Arc::clone(&place)), waiting, told.clone()));
        }
        Ok(Self {
            queues,
            answers,
            _tasks: tasks,
        })
    }

    /// Asks; where too many wait already the answer is that there will be none.
    pub(super) fn ask(&self, asked: Asked) -> Option<Answer> {
        let lane = asked.whose.map_or(0, |whose| 1 + (whose % LANES) as usize);
        let id = asked.id;
        let queued = self.queues.get(lane)?.try_send(asked);
        queued.err().map(|_| Answer::none(id))
    }

    /// The next answer. What is not waited for to the end is not lost.
    pub(super) async fn next(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            // The lanes end with us, not before.
            None => std::future::pending().await,
        }
    }
}

async fn work(mut lane: Lane, mut waiting: mpsc::Receiver<Asked>, told: mpsc::Sender<Answer>) {
    while let Some(asked) = waiting.recv().await {
        let answer = match lane.ask(&asked.request).await {
            Ok((status, body)) => Answer {
                id: asked.id,
                status: Some(status),
                body,
            },
            Err(error) => {
                tracing::debug!(request = ?asked.request, %error, "Asterisk doesn't answer");
                Answer::none(asked.id)
            }
        };
        if told.send(answer).await.is_err() {
            return;
        }
    }
}

impl Answer {
    /// There is none.
    pub(super) const fn none(id: u64) -> Self {
        Self {
            id,
            status: None,
            body: String::new(),
        }
    }
}

impl Lane {
    /// A single one.
    pub(super) fn to(config: &AsteriskConfig) -> Result<Self, RestError> {
        Ok(Self::new(Arc::new(Place::new(config)?)))
    }

    const fn new(place: Arc<Place>) -> Self {
        Self { place, open: None }
    }

    /// Status and body of the answer.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<(u16, String), RestError> {
        let answered = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        let answered = answered.unwrap_or(Err(RestError::Timeout));
        if answered.is_err() {
            self.open = None;
        }
        answered
    }

    async fn exchange(&mut self, request: &Request) -> Result<(u16, String), RestError> {
        let message = self.place.message(request)?;
        let (mut open, response) = match self.kept().await {
            None => self.send_anew(message).await?,
            Some(mut open) => match open.sender.try_send_request(message).await {
                Ok(response) => (open, response),
                // It was closed before anything was sent.
                Err(mut error) => match error.take_message() {
                    Some(message) => self.send_anew(message).await?,
                    None => return Err(RestError::Broken),
                },
            },
        };
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
        let body = body.collect().await.map_err(|_| RestError::Broken)?;
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        open.used_at = clock::now();
        self.open = Some(open);
        Ok((status, body))
    }

    /// The connection of the request before, if it takes another.
    async fn kept(&mut self) -> Option<Open> {
        let mut open = self.open.take().filter(Open::is_fresh)?;
        open.sender.ready().await.is_ok().then_some(open)
    }

    async fn send_anew(&self, message: Message) -> Result<(Open, Response<Incoming>), RestError> {
        let mut open = self.place.open().await?;
        let sent = open.sender.send_request(message).await;
        Ok((open, sent.map_err(|_| RestError::Broken)?))
    }
}

impl Open {
    /// Asterisk closes what is quiet for long, maybe just while the next request is on its way.
    fn is_fresh(&self) -> bool {
        let idle = clock::now().saturating_duration_since(self.used_at);
        idle < IDLE && !self.sender.is_closed()
    }
}

impl Place {
    fn new(config: &AsteriskConfig) -> Result<Self, RestError> {
        let url = Url::parse(&config.url).map_err(|_| RestError::Unusable)?;
        let host = url.host_str().ok_or(RestError::Unusable)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let credentials = format!("{}:{}", config.user, config.password.expose());
        let credentials = format!("Basic {}", STANDARD.encode(credentials));
        let header = |text: &str| HeaderValue::try_from(text).map_err(|_| RestError::Unusable);
        let mut authorization = header(&credentials)?;
        authorization.set_sensitive(true);
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().ok_or(RestError::Unusable)?,
            tls: match url.scheme() {
                "https" => Some(connector().map_err(|_| RestError::Tls)?),
                _ => None,
            },
            authority: header(&authority)?,
            path: url.path().trim_end_matches('/').to_owned(),
            authorization,
        })
    }

    async fn open(&self) -> Result<Open, RestError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|_| RestError::Unreachable)?;
        // Small requests are not to wait for each other.
        let _set = tcp.set_nodelay(true);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEADERS_BYTES_MAX);
        let mut driver = JoinSet::new();
        let sender = match &self.tls {
            None => {
                let shaken = builder.handshake(TokioIo::new(tcp)).await;
                let (sender, connection) = shaken.map_err(|_| RestError::Broken)?;
                driver.spawn(connection);
                sender
            }
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|_| RestError::Tls)?;
                let stream = tls.connect(name, tcp).await.map_err(|_| RestError::Tls)?;
                let shaken = builder.handshake(TokioIo::new(stream)).await;
                let (sender, connection) = shaken.map_err(|_| RestError::Broken)?;
                driver.spawn(connection);
                sender
            }
        };
        Ok(Open {
            sender,
            used_at: clock::now(),
            _driver: driver,
        })
    }

    fn message(&self, request: &Request) -> Result<Message, RestError> {
        let message = hyper::Request::builder()
            .method(request.method())
            .uri(format!("{}/ari/{}", self.path, request.uri()))
            .header(HOST, self.authority.clone())
            .header(AUTHORIZATION, self.authorization.clone());
        let message = match request.body() {
            Some(_) => message.header(CONTENT_TYPE, HeaderValue::from_static("application/json")),
            None => message,
        };
        let body = request.body().unwrap_or_default().to_owned();
        let message = message.body(Full::new(Bytes::from(body)));
        message.map_err(|_| RestError::Unusable)
    }
}

/// Why a request had no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RestError {
    /// The configured address, user or password can't be used.
    #[error("asterisk.url, user or password can't be used for HTTP")]
    Unusable,
    /// Nobody takes the connection.
    #[error("no connection")]
    Unreachable,
    /// Its certificate isn't trusted, or it speaks no TLS.
    #[error("TLS failed: is the certificate trusted?")]
    Tls,
    /// The connection broke, or what came isn't HTTP.
    #[error("the connection broke")]
    Broken,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
}

/// Connections for callers; one more is for what concerns none.
const LANES: u64 = 8;
/// Requests that may wait for one connection: some seconds of an Asterisk that answers in a millisecond.
const WAITING: usize = 2_048;
/// Answers that may wait for the gateway.
const ANSWERS: usize = 1_024;
/// As long as `ari` waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// A third of Asterisk's own `session_keep_alive`.
const IDLE: Duration = Duration::from_secs(5);
const HEADERS_BYTES_MAX: usize = 64 * 1_024;
/// As for a message of the websocket.
const BODY_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{RestWay, Secret};

    fn config(at: SocketAddr) -> AsteriskConfig {
        AsteriskConfig {
            name: "pbx".to_owned(),
            url: format!("http://{at}/pbx"),
            user: "vb".to_owned(),
            password: Secret::new("canary"),
            app: "voicebridge-a".to_owned(),
            take_over: Vec::new(),
            rest: RestWay::Http,
            leave_to: Vec::new(),
            dial: None,
        }
    }

    /// Answers everything with `204`, on connections that it closes after so many, and tells what it was asked.
    async fn server(per_connection: usize) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 8_192];
                    for turn in 1..=per_connection {
                        let Ok(length @ 1..) = stream.read(&mut buffer).await else {
                            return;
                        };
                        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        let _gone = tell.send(text);
                        let last = if turn == per_connection {
                            "close"
                        } else {
                            "keep-alive"
                        };
                        let answer =
                            format!("HTTP/1.1 204 No Content\r\nConnection: {last}\r\n\r\n");
                        let _gone = stream.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        (at, told)
    }

    #[tokio::test]
    async fn a_request_goes_with_credentials_below_the_configured_path() {
        let (at, mut told) = server(1).await;
        let mut lane = Lane::to(&config(at)).unwrap();
        let answered = lane.ask(&Request::set_global("A", "b c&d")).await;
        assert_eq!(answered, Ok((204, String::new())));
        let text = told.recv().await.unwrap();
        let line = "POST /pbx/ari/asterisk/variable?variable=A&value=b%20c%26d HTTP/1.1\r\n";
        assert!(text.starts_with(line), "{text}");
        let text = text.to_lowercase();
        assert!(
            text.contains("authorization: basic dmi6y2fuyxj5\r\n"),
            "{text}"
        );
        assert!(text.contains(&format!("host: {at}\r\n")), "{text}");
    }

    #[tokio::test]
    async fn what_is_for_one_caller_arrives_in_order_though_connections_are_closed_in_between() {
        let (at, mut told) = server(3).await;
        let mut lanes = Lanes::start(&config(at)).unwrap();
        for id in 0..120 {
            let whose = Some(id % 12);
            let request = Request::set_global(&format!("OF_{}", id % 12), &id.to_string());
            assert!(lanes.ask(Asked { id, whose, request }).is_none());
        }
        let mut last = [None; 12];
        for _ in 0..120 {
            let answer = tokio::time::timeout(PATIENCE, lanes.next()).await.unwrap();
            assert_eq!(answer.status, Some(204));
            let text = told.recv().await.unwrap();
            let value = text.split("value=").nth(1).unwrap();
            let id: usize = value.split(' ').next().unwrap().parse().unwrap();
            assert!(last[id % 12] < Some(id), "{id} after {last:?}");
            last[id % 12] = Some(id);
        }
    }

    #[tokio::test]
    async fn who_is_not_there_is_told_and_so_is_one_request_too_many() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(listener.local_addr().unwrap());
        let mut lane = Lane::to(&config).unwrap();
        let lanes = Lanes::start(&config).unwrap();
        let mut refused = 0;
        for id in 0..WAITING as u64 + 10 {
            let (whose, request) = (None, Request::ping());
            refused += u64::from(lanes.ask(Asked { id, whose, request }).is_some());
        }
        assert!((9..=10).contains(&refused), "{refused}");
        drop((lanes, listener));
        assert_eq!(
            lane.ask(&Request::ping()).await,
            Err(RestError::Unreachable)
        );
    }
}
