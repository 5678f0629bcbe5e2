//! `keygate-authz`: what Envoy's `ext_authz` asks in the benchmarks. It allows everything, or asks
//! the control plane about each key.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use edge_protocol::{VERIFY_PATH, Verdict, VerifyAnswer, VerifyRequest};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Answers Envoy's ext_authz
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen
    listen: SocketAddr,
    /// The control plane's edge listener [default: allow everything]
    #[arg(long)]
    edge: Option<SocketAddr>,
    /// Its token
    #[arg(long, env = "KEYGATE_EDGE_TOKEN", default_value = "", hide_env_values = true)]
    token: String,
}

/// The control plane, if keys are looked at.
#[derive(Clone)]
struct Edge {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    authorization: String,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> Result<()> {
    let edge = arguments.edge.map(|address| Edge::new(address, &arguments.token));
    let listener = TcpListener::bind(arguments.listen).await.context("cannot listen")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let edge = edge.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| check(edge.clone(), request));
            // A connection that breaks is Envoy's to see.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn check(
    edge: Option<Edge>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = match edge {
        None => StatusCode::OK,
        Some(edge) => edge.verify(&request).await.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    Ok(answer)
}

impl Edge {
    fn new(address: SocketAddr, token: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let url = format!("http://{address}{VERIFY_PATH}");
        Self { client, url, authorization: format!("Bearer {token}") }
    }

    async fn verify(self, request: &Request<Incoming>) -> Result<StatusCode> {
        let Some(key) = request.headers().get("x-api-key") else {
            return Ok(StatusCode::FORBIDDEN);
        };
        let body = serde_json::to_string(&VerifyRequest { key: key.to_str()?.to_owned() })?;
        let question = Request::builder()
            .method(Method::POST)
            .uri(self.url)
            .header("authorization", self.authorization)
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
