//! A proxy between Envoy and the control plane that can be slow, lose answers and talk rubbish.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use xtask::edge_config::EdgeConfig;

/// Where the address of the control plane stands in Envoy's cluster.
const ENDPOINT: &str =
    "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";

/// What happens to the calls whose path begins as named.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// The control plane's answer is passed on.
    Forward,
    /// The control plane is asked, and its answer passed on so much later.
    Delay(Duration),
    /// The control plane is asked, and its answer kept back until this conduct ends.
    Hold,
    /// The control plane is asked, and its answer is lost: 503 as a proxy would say it.
    LoseAnswer,
    /// The control plane's answer is passed on without its stamp.
    Unstamped,
    /// The control plane is asked, and half of its answer is passed on; then the stream breaks.
    CutShort,
    /// The control plane is not asked: this is the answer.
    Answer(Made),
}

/// What the connections are like, whatever is said over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// What is sent arrives.
    Good,
    /// A connection is made, and then nothing arrives, in either direction; nobody is told.
    Dead,
    /// Random bytes come, and then the end.
    Noise,
}

/// An answer that no control plane gives.
#[derive(Clone, Debug)]
pub struct Made {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Made {
    /// An answer with the control plane's stamp.
    #[must_use]
    pub fn stamped(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let stamp = ("x-keygate-edge", "1".to_owned());
        Self { status, headers: vec![stamp], body: body.into() }
    }

    /// An answer without it.
    #[must_use]
    pub fn plain(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// With one more header field.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A call that a filter made.
#[derive(Clone, Debug)]
pub struct Call {
    /// The path, with its query.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
}

type Rules = Vec<(String, Conduct)>;
type Parts = (Response<()>, Vec<u8>);

/// How an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    InOrder,
    Reset,
}

struct Shared {
    calls: Mutex<Vec<Call>>,
    rules: watch::Sender<Rules>,
    line: watch::Sender<Line>,
    control_plane: OnceLock<SocketAddr>,
}

/// A proxy between Envoy and the control plane. It runs on a thread of its own until it is
/// dropped.
pub struct EdgeProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EdgeProxy {
    /// A proxy that passes everything on.
    #[must_use]
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            rules: watch::Sender::new(Rules::new()),
            line: watch::Sender::new(Line::Good),
            control_plane: OnceLock::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, of_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// The change to Envoy's configuration that puts the proxy in between:
    /// `Gate::builder().edit_envoy(proxy.in_between())`.
    pub fn in_between(&self) -> impl Fn(&mut EdgeConfig) -> Result<()> + Send + Sync + 'static {
        let (shared, address) = (Arc::clone(&self.shared), self.address);
        move |config| {
            let cluster = config.cluster_mut("keygate_control_plane")?;
            let endpoint = cluster.pointer(ENDPOINT).context("no endpoint")?;
            let port = u16::try_from(endpoint["port_value"].as_u64().context("no port")?)?;
            let host = endpoint["address"].as_str().context("no address")?;
            shared.control_plane.get_or_init(|| SocketAddr::new(host.parse().unwrap(), port));
            config.set_control_plane(&address.ip().to_string(), address.port())
        }
    }

    /// From now on calls whose path begins so are treated so; answers that were kept back go out.
    pub fn conduct(&self, path: &str, conduct: Conduct) {
        self.shared.rules.send_modify(|rules| {
            rules.retain(|(of, _)| of != path);
            rules.push((path.to_owned(), conduct));
        });
    }

    /// From now on new connections are like this. Those that there are die without a word, even if
    /// the line was good and is again.
    pub fn line(&self, line: Line) {
        self.shared.line.send_replace(line);
    }

    /// The calls so far whose path begins so.
    #[must_use]
    pub fn calls(&self, path: &str) -> Vec<Call> {
        let calls = self.shared.calls.lock().unwrap();
        calls.iter().filter(|call| call.path.starts_with(path)).cloned().collect()
    }

    /// How many times filters have asked about a key.
    #[must_use]
    pub fn questions_about(&self, key: impl AsRef<[u8]>) -> usize {
        let key = key.as_ref();
        let asks = |call: &Call| call.body.windows(key.len()).any(|part| part == key);
        self.calls("/edge/v1/verify").iter().filter(|call| asks(call)).count()
    }
}

impl Drop for EdgeProxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut line = shared.line.subscribe();
            let at_first = *line.borrow_and_update();
            match at_first {
                Line::Good => {}
                Line::Dead => pending().await,
                Line::Noise => return make_noise(stream).await,
            }
            let mut talk = pin!(talk(stream, shared));
            tokio::select! {
                () = &mut talk => {}
                // Nobody looks at the connection any more, and nobody closes it.
                _ = line.changed() => pending().await,
            }
        });
    }
}

pub(crate) async fn make_noise(mut stream: TcpStream) {
    let mut noise = [0; 4096];
    getrandom::fill(&mut noise).unwrap();
    // Envoy may have gone already.
    let _ = stream.write_all(&noise).await;
}

async fn talk(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // What fails on the way resets the stream, as a broken network would.
            let Ok(((head, body), end)) = answer(request, &shared).await else { return };
            let whole = body.is_empty() && end == End::InOrder;
            let Ok(mut sending) = respond.send_response(head, whole) else { return };
            if !body.is_empty() {
                let _ = sending.send_data(body.into(), end == End::InOrder);
            }
            if end == End::Reset {
                // A reset would overtake what was not sent yet.
                tokio::time::sleep(Duration::from_millis(20)).await;
                sending.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        });
    }
}

async fn answer(request: Request<h2::RecvStream>, shared: &Shared) -> Result<(Parts, End)> {
    let (head, body) = request.into_parts();
    let body = read(body).await?;
    let path = head.uri.path_and_query().context("no path")?.to_string();
    let mut rules = shared.rules.subscribe();
    let of_path = |rules: &Rules| {
        let rule = rules.iter().rev().find(|(of, _)| path.starts_with(of.as_str()));
        rule.map_or(Conduct::Forward, |(_, conduct)| conduct.clone())
    };
    let conduct = of_path(&rules.borrow());
    shared.calls.lock().unwrap().push(Call { path: path.clone(), body: body.clone() });
    let forward = forward(shared, head.method, &path, &head.headers, body);
    let answer = match conduct {
        Conduct::Forward => forward.await?,
        Conduct::Delay(time) => {
            let answer = forward.await?;
            tokio::time::sleep(time).await;
            answer
        }
        Conduct::Hold => {
            let answer = forward.await?;
            rules.wait_for(|rules| !matches!(of_path(rules), Conduct::Hold)).await?;
            answer
        }
        Conduct::LoseAnswer => {
            forward.await?;
            made(&Made::plain(503, "upstream connect error"))?
        }
        Conduct::Unstamped => {
            let (mut head, body) = forward.await?;
            head.headers_mut().remove("x-keygate-edge");
            (head, body)
        }
        Conduct::CutShort => {
            let (head, mut body) = forward.await?;
            body.truncate(body.len() / 2);
            return Ok(((head, body), End::Reset));
        }
        Conduct::Answer(answer) => made(&answer)?,
    };
    Ok((answer, End::InOrder))
}

fn made(answer: &Made) -> Result<Parts> {
    let mut head = Response::builder().status(answer.status).body(())?;
    for (name, value) in &answer.headers {
        head.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value)?);
    }
    Ok((head, answer.body.clone()))
}

async fn forward(
    shared: &Shared,
    method: Method,
    path: &str,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Parts> {
    let control_plane = *shared.control_plane.get().context("not in between")?;
    let Ok(stream) = TcpStream::connect(control_plane).await else {
        return made(&Made::plain(StatusCode::SERVICE_UNAVAILABLE.as_u16(), "connection refused"));
    };
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let uri = format!("http://{control_plane}{path}");
    let mut request = Request::builder().method(method).uri(uri).body(())?;
    for name in ["authorization", "content-type"] {
        if let Some(value) = headers.get(name) {
            request.headers_mut().insert(HeaderName::from_static(name), value.clone());
        }
    }
    let (answer, mut sending) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body.into(), true)?;
    }
    let (head, body) = answer.await?.into_parts();
    let body = read(body).await?;
    connection.abort();
    let mut response = Response::builder().status(head.status).body(())?;
    *response.headers_mut() = head.headers;
    Ok((response, body))
}

async fn read(mut body: h2::RecvStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
