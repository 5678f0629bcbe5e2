//! Every call of the admin API leaves an entry in the audit log: this adds the one that is missing.
//!
//! What changes something writes its entry in the transaction of the change, and who is not let in has
//! theirs written, or counted, where that is decided. What is left are calls that were answered
//! without a change, that were refused for what they asked, and that failed. They are told apart here,
//! by their status, around all endpoints: none of them can forget.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use edge_protocol::EventKind;
use std::{net::IpAddr, sync::Arc};

use super::{authenticate::method_name, denials::Caller, ndjson::NDJSON};
use crate::{
    audit::{
        AuditEntry,
        trail::{Steps, Trail},
    },
    http::{Peer, problem::Code},
    service::Service,
};

/// Runs a call, and has it told of.
pub(super) async fn audited(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let mut call = Call::of(Arc::clone(&service), &request);
    let response = call.trail.clone().follow(next.run(request)).await;
    if let Some(entry) = call.answered(&response) {
        if entry.event.kind == EventKind::AdminRefused {
            // In the log before its answer leaves, as every refusal is.
            service.recorder.record(entry).await;
        } else {
            service.recorder.note(entry);
        }
    }
    response
}

/// A call that is under way. One that is dropped, since its caller has gone away or it took too long,
/// was left unanswered, and is told of as that.
struct Call {
    service: Arc<Service>,
    trail: Trail,
    method: &'static str,
    route: Option<MatchedPath>,
    client_ip: Option<IpAddr>,
    is_over: bool,
}

impl Call {
    fn of(service: Arc<Service>, request: &Request) -> Self {
        Self {
            service,
            trail: Trail::default(),
            method: method_name(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
            client_ip: request.extensions().get::<Peer>().map(|peer| peer.address()),
            is_over: false,
        }
    }

    /// It has its answer; gives the entry that there is not yet.
    fn answered(&mut self, response: &Response) -> Option<AuditEntry> {
        self.is_over = true;
        self.missing(Some(response))
    }

    /// The entry that there is not yet.
    fn missing(&self, response: Option<&Response>) -> Option<AuditEntry> {
        let Steps { caller, about, told } = self.trail.steps();
        if told {
            return None;
        }
        let kind = kind(response.map(Response::status));
        let (now, details) = (self.service.clock.now(), self.details(response));
        match (caller, self.client_ip) {
            (Some(caller), _) => Some(AuditEntry::of_call(&caller, kind, about, now, &details)),
            // Anybody can make as many as they like.
            (None, Some(client_ip)) if kind == EventKind::AdminFailed => {
                self.service.admin_denials.note(Caller::Unknown(client_ip), now, &details)
            }
            // No endpoint was asked: the path has no such method.
            (None, _) => None,
        }
    }

    /// Nothing in it is the client's own.
    fn details(&self, response: Option<&Response>) -> String {
        let route = self.route.as_ref().map_or("-", MatchedPath::as_str);
        let mut details = format!("method={} route={route} status=", self.method);
        let Some(response) = response else { return details + "none" };
        details += response.status().as_str();
        if let Some(code) = response.extensions().get::<Code>() {
            details += " code=";
            details += code.as_str();
        }
        // All that matches, and not a page of it.
        if response.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == NDJSON) {
            details += " export=true";
        }
        details
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(entry) = self.missing(None)
        {
            self.service.recorder.note(entry);
        }
    }
}

fn kind(status: Option<StatusCode>) -> EventKind {
    match status {
        Some(status) if status.is_client_error() => EventKind::AdminRefused,
        Some(status) if !status.is_server_error() => EventKind::AdminRead,
        _ => EventKind::AdminFailed,
    }
}

#[cfg(test)]
mod tests;
