//! `keygate-stand-in`: servers that the benchmarks need in the place of real ones.

#![expect(
    clippy::disallowed_methods,
    reason = "a server of the benchmarks lives until it is killed"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use edge_protocol::{
    CHANGES_PATH, ChangesAnswer, EVENTS_PATH, EventAck, EventBatch, KeyEnvironment, KeyRecord,
    Position, STAMP, STAMP_HEADER, Scope, VERIFY_PATH, Verdict, VerifyAnswer, VerifyRequest,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

/// Servers that the benchmarks need in the place of real ones
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen
    listen: SocketAddr,
    #[command(subcommand)]
    part: Part,
}

#[derive(Clone, Debug, Subcommand)]
enum Part {
    /// What `ext_authz` asks: it allows everything
    Allow,
    /// What `ext_authz` asks: it asks the control plane about each key
    Verify {
        /// The control plane's edge listener
        edge: SocketAddr,
        /// Its token
        #[arg(long, env = "KEYGATE_EDGE_TOKEN", hide_env_values = true)]
        token: String,
    },
    /// A control plane that knows every key in order, at once, and for which nothing ever changes
    KnowAll,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<()> {
    let server = Arc::new(match &arguments.part {
        Part::Allow => Server::Allow,
        Part::Verify { edge, token } => Server::Verify(Box::new(Edge::new(*edge, token))),
        Part::KnowAll => Server::KnowAll,
    });
    let listener = TcpListener::bind(arguments.listen).await.context("cannot listen")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&server), request));
            let connection = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks is Envoy's to see.
            connection.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

enum Server {
    Allow,
    Verify(Box<Edge>),
    KnowAll,
}

async fn answer(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match &*server {
        Server::Allow => Ok(status(StatusCode::OK)),
        Server::Verify(edge) => edge.verify(&request).await.map(status),
        Server::KnowAll => know_all(request).await,
    };
    Ok(answer.unwrap_or_else(|_| status(StatusCode::SERVICE_UNAVAILABLE)))
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

async fn know_all(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let here = Position { epoch: "0".to_owned(), sequence: 0 };
    let answer = match path.as_str() {
        VERIFY_PATH => {
            let VerifyRequest { key } = serde_json::from_slice(&body)?;
            serde_json::to_vec(&VerifyAnswer { as_of: here, verdict: verdict(&key) })?
        }
        EVENTS_PATH => {
            let EventBatch { batch, .. } = serde_json::from_slice(&body)?;
            serde_json::to_vec(&EventAck { batch })?
        }
        CHANGES_PATH => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let nothing = ChangesAnswer { position: here, reset: false, changes: Vec::new() };
            serde_json::to_vec(&nothing)?
        }
        _ => return Ok(status(StatusCode::NOT_FOUND)),
    };
    let mut answer = Response::new(Full::from(answer));
    answer.headers_mut().insert(STAMP_HEADER, HeaderValue::from_static(STAMP));
    Ok(answer)
}

/// `kg_live_<id>_…` is known by its id.
fn verdict(key: &str) -> Verdict {
    let Some(key_id) = key.split('_').nth(2) else { return Verdict::Unknown };
    let record = KeyRecord {
        key_id: key_id.to_owned(),
        owner: Some("bench".to_owned()),
        scope: Scope::Read,
        environment: KeyEnvironment::Live,
        is_active: true,
        expires_at_ms: None,
        allowed_ips: Vec::new(),
        rate_limit: None,
    };
    Verdict::Known { record }
}

/// The control plane that is asked.
struct Edge {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    authorization: String,
}

impl Edge {
    fn new(address: SocketAddr, token: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let url = format!("http://{address}{VERIFY_PATH}");
        Self { client, url, authorization: format!("Bearer {token}") }
    }

    async fn verify(&self, request: &Request<Incoming>) -> Result<StatusCode> {
        let Some(key) = request.headers().get("x-api-key") else {
            return Ok(StatusCode::FORBIDDEN);
        };
        let body = serde_json::to_string(&VerifyRequest { key: key.to_str()?.to_owned() })?;
        let question = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(Full::from(body))?;
        let answer = self.client.request(question).await?.into_body().collect().await?;
        let answer: VerifyAnswer = serde_json::from_slice(&answer.to_bytes())?;
        Ok(match answer.verdict {
            Verdict::Known { record } if record.is_active => StatusCode::OK,
            Verdict::Known { .. } | Verdict::Unknown => StatusCode::FORBIDDEN,
        })
    }
}
