//! Serving connections, with bounds on everything a client could make us keep.

use axum::{Router, body::Body, extract::Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    Peer, Trusted,
    activity::{Activity, IdleLimits},
    tls::{ClientCertificate, TlsAcceptor},
};
use crate::metrics;

/// An idle connection is told that it ends, and has this long to take note.
const FAREWELL: Duration = Duration::from_secs(1);
/// After an error of `accept` (no file descriptors left, say), before the next attempt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_STREAMS: u32 = 1024;

/// A bound listener and how to serve it.
pub struct Server {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// The socket.
    pub listener: TcpListener,
    /// How it speaks TLS; without it, it speaks none.
    pub tls: Option<TlsAcceptor>,
    /// What answers.
    pub router: Router,
    /// Connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// How long a connection may take for the head of a request, the wait for it included.
    pub header_timeout: Duration,
    /// How long a connection may lie idle.
    pub idle: IdleLimits,
    /// How long requests that are under way may still take when the service ends.
    pub drain: Duration,
}

impl Server {
    /// Serves until `stop`, then lets what is under way end.
    pub async fn run(self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(self.max_connections));
        let mut connections = JoinSet::new();
        loop {
            let_go(self.name, &mut connections);
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &room) => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer, place)) => {
                    let connection = begin(
                        stream,
                        peer,
                        self.tls.clone(),
                        Terms {
                            router: self.router.clone(),
                            name: self.name,
                            header_timeout: self.header_timeout,
                            idle: self.idle,
                            drain: self.drain,
                            stop: stop.clone(),
                        },
                    );
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain, all_ended).await.is_err() {
            tracing::warn!(
                listener = self.name,
                open = connections.len(),
                "connections were cut off"
            );
        }
    }
}

/// Lets go of connections that have ended, so that the set does not grow.
fn let_go(listener: &'static str, connections: &mut JoinSet<()>) {
    while let Some(ended) = connections.try_join_next() {
        if let Err(error) = ended {
            tracing::error!(listener, %error, "a connection's task failed");
        }
    }
}

/// A client that is gone before it was accepted is no reason to pause.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Small answers must not wait for Nagle's timer. It fails only when the client is gone.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, place))
}

/// How a connection is served.
struct Terms {
    router: Router,
    name: &'static str,
    header_timeout: Duration,
    idle: IdleLimits,
    drain: Duration,
    stop: CancellationToken,
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Client {
    address: SocketAddr,
    certificate: Option<ClientCertificate>,
}

/// Serves a connection, after its handshake where there is one: nobody else waits for that.
async fn begin(stream: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, terms: Terms) {
    let name = terms.name;
    let _open =
        metrics::InFlight::enter(::metrics::gauge!(metrics::CONNECTIONS, "listener" => name));
    let Some(tls) = tls else {
        let client = Client { address, certificate: None };
        return serve(stream, client, terms, std::future::pending()).await;
    };
    let stop = terms.stop.clone();
    let shaken = tokio::select! {
        shaken = tls.accept(stream) => shaken,
        () = stop.cancelled() => return,
    };
    let outcome = shaken.as_ref().map_or_else(|refusal| refusal.outcome, |_| "ok");
    ::metrics::counter!(metrics::TLS_HANDSHAKES, "listener" => name, "outcome" => outcome)
        .increment(1);
    match shaken {
        Ok(secured) => {
            let certificate = secured.is_known.then_some(ClientCertificate);
            let client = Client { address, certificate };
            serve(secured.stream, client, terms, secured.expiry.passed()).await;
        }
        // Port scanners, load balancers and impatient clients: nothing that needs mending.
        Err(refusal) if refusal.outcome == "closed" => {
            tracing::debug!(listener = name, peer = %address, "no TLS: {}", refusal.why);
        }
        Err(refusal) => {
            tracing::warn!(listener = name, peer = %address, "no TLS: {}", refusal.why);
        }
    }
}

/// Serves a connection until it ends, or is asked to end because the service does or because it
/// has `expired`; then what is under way may take as long as it may when the service ends.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client,
    terms: Terms,
    expired: impl Future<Output = ()>,
) {
    let Terms { router, name, header_timeout, idle, drain, stop } = terms;
    let peer = client.address;
    let activity = Activity::new(idle);
    let requests = Arc::clone(&activity);
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let under_way = requests.begin();
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(client.address));
        if let Some(certificate) = client.certificate {
            request.extensions_mut().insert(certificate);
        }
        async move {
            let answer = router.oneshot(request).await;
            if answer.as_ref().is_ok_and(|it| it.extensions().get::<Trusted>().is_some()) {
                under_way.is_trusted();
            }
            answer
        }
    });

    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));

    let mut look = pin!(tokio::time::sleep(idle.shortest()));
    let mut expired = pin!(expired);
    let mut cut = pin!(tokio::time::sleep(drain));
    let (mut ending, mut over) = (false, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(listener = name, %peer, %error, "a connection ended badly");
                }
                return;
            }
            () = look.as_mut() => {
                let now = Instant::now();
                match activity.deadline() {
                    Some(deadline) if deadline > now => look.as_mut().reset(deadline),
                    Some(_) if ending => return,
                    Some(_) => {
                        connection.as_mut().graceful_shutdown();
                        ending = true;
                        look.as_mut().reset(now + FAREWELL);
                    }
                    None => look.as_mut().reset(now + idle.shortest()),
                }
            }
            () = expired.as_mut(), if !over => {
                connection.as_mut().graceful_shutdown();
                (ending, over) = (true, true);
                // Asking is not enough: an HTTP/2 client that does not answer goes on.
                cut.as_mut().reset(Instant::now() + drain);
            }
            () = cut.as_mut(), if over => return,
            () = stop.cancelled(), if !ending => {
                connection.as_mut().graceful_shutdown();
                ending = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use hyper::client::conn::{http1, http2};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const IDLE: Duration = Duration::from_millis(600);

    struct Running {
        address: SocketAddr,
        stop: CancellationToken,
        tasks: JoinSet<()>,
    }

    async fn start(drain: Duration) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route(
                "/",
                get(|request: Request| async move {
                    let peer = request.extensions().get::<Peer>().copied().expect("a peer");
                    format!("{:?} from {}", request.version(), peer.address())
                }),
            )
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    "done"
                }),
            )
            .route("/trusted", get(|| async { (axum::Extension(Trusted), "welcome") }));
        let server = Server {
            name: "test",
            listener,
            tls: None,
            router,
            max_connections: 2,
            header_timeout: Duration::from_secs(5),
            idle: IdleLimits { stranger: IDLE, trusted: Duration::from_mins(1) },
            drain,
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        Running { address, stop, tasks }
    }

    async fn read(response: hyper::Response<hyper::body::Incoming>) -> String {
        let bytes =
            axum::body::to_bytes(Body::new(response.into_body()), 1000).await.expect("a body");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    async fn text(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    #[tokio::test]
    async fn http1_and_http2_with_prior_knowledge_are_both_spoken() {
        let mut it = start(Duration::from_secs(1)).await;
        let connect =
            || async { TokioIo::new(TcpStream::connect(it.address).await.expect("connected")) };
        let request = |version| {
            let uri = format!("http://{}/", it.address);
            Request::builder().uri(uri).version(version).body(Body::empty()).expect("a request")
        };
        let (mut client, connection) =
            http2::handshake(TokioExecutor::new(), connect().await).await.expect("HTTP/2");
        it.tasks.spawn(async move { drop(connection.await) });
        let answer = client.send_request(request(hyper::Version::HTTP_2)).await.expect("an answer");
        assert_eq!(read(answer).await, "HTTP/2.0 from 127.0.0.1");
        drop(client);

        let (mut client, connection) = http1::handshake(connect().await).await.expect("HTTP/1");
        it.tasks.spawn(async move { drop(connection.await) });
        let answer =
            client.send_request(request(hyper::Version::HTTP_11)).await.expect("an answer");
        assert_eq!(read(answer).await, "HTTP/1.1 from 127.0.0.1");
    }

    #[tokio::test]
    async fn what_is_under_way_is_answered_when_the_service_ends_and_nothing_new_is_taken() {
        let mut it = start(Duration::from_secs(5)).await;
        let address = it.address;
        let mut clients = JoinSet::new();
        clients.spawn(async move { text(address, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        it.stop.cancel();
        let answer = clients.join_next().await.expect("a client").expect("no panic");
        assert!(answer.ends_with("done"), "{answer}");
        it.tasks.join_next().await.expect("a server").expect("no panic");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_does_not_end_is_cut_off_after_the_time_to_drain() {
        let mut it = start(Duration::from_millis(50)).await;
        let mut stream = TcpStream::connect(it.address).await.expect("connected");
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
        it.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_millis(250), it.tasks.join_next()).await;
        ended.expect("in time").expect("a server").expect("no panic");
    }

    #[tokio::test]
    async fn more_connections_than_there_is_room_for_wait_their_turn() {
        let it = start(Duration::from_secs(1)).await;
        let one = TcpStream::connect(it.address).await.expect("connected");
        let two = TcpStream::connect(it.address).await.expect("connected");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let third = text(it.address, "GET / HTTP/1.0\r\n\r\n");
        let mut third = pin!(third);
        let waited = tokio::time::timeout(Duration::from_millis(100), third.as_mut()).await;
        assert!(waited.is_err(), "{waited:?}");
        drop(one);
        let answer = tokio::time::timeout(Duration::from_secs(2), third).await.expect("in time");
        assert!(answer.contains("200 OK"), "{answer}");
        drop(two);
    }

    /// Whether the other end closes the connection within so long.
    async fn closes(stream: &mut TcpStream, patience: Duration) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(patience, stream.read_to_end(&mut rest)).await.is_ok()
    }

    #[tokio::test]
    async fn strangers_keep_no_idle_connection_and_those_who_belong_here_do() {
        let it = start(Duration::from_secs(1)).await;
        for (path, prior, kept) in
            [("/", "", false), ("/", "x", false), ("/slow", "", false), ("/trusted", "", true)]
        {
            let mut stream = TcpStream::connect(it.address).await.expect("connected");
            let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n{prior}");
            stream.write_all(head.as_bytes()).await.expect("sent");
            let closed = closes(&mut stream, FAREWELL + 4 * IDLE).await;
            assert_eq!(closed, !kept, "{path} {prior}");
        }
    }

    #[tokio::test]
    async fn an_http2_connection_that_only_answers_pings_is_idle_too() {
        let it = start(Duration::from_secs(1)).await;
        let stream = TcpStream::connect(it.address).await.expect("connected");
        let (client, connection) =
            http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        let ended = tokio::time::timeout(FAREWELL + 4 * IDLE, connection).await;
        assert!(ended.is_ok());
        drop(client);
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let it = start(Duration::from_secs(1)).await;
        let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(20_000));
        let answer = text(it.address, &long).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
