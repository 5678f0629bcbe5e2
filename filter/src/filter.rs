//! The filter of one worker: which gate a request belongs to, and what is done about it.

use gate::{
    ClientAddress, ClientAddressSource, Credential, Decision, Gate, IDENTITY_HEADERS, Now, Pass,
    Refusal, Request, StreamId,
};
use proxy_wasm::types::{Action, BufferType, LogLevel, MapType};
use std::cell::RefCell;

use crate::buffer::HostBuffer;
use crate::host;
use crate::origin::Origin;
use crate::pairs::{PairsWriter, pairs};
use crate::responses::Responses;
use crate::root::{Decisions, Root};

/// How often a root context is given the time, in milliseconds: how long a batch of events or a
/// new poll may be late.
const TICK_MS: u32 = 50;
/// A root context is gone, its configuration taken away, when others have had so many ticks each
/// since its last one. Counted in ticks and not in time: a worker that stalls delays all of them.
const GONE_TICKS: u64 = 200;
/// Headers under this prefix are the gate's word to the upstream, never a client's. An underscore
/// counts as a dash, since many upstreams cannot tell them apart.
const OWN_PREFIX: &[u8] = b"x-keygate-";

thread_local! {
    static FILTER: RefCell<Option<Filter>> = const { RefCell::new(None) };
}

/// Runs something on this worker's filter; `otherwise` when it is busy, which the host rules out
/// (it does not call into the VM while a callback runs, but for memory).
pub(crate) fn with_filter<T>(otherwise: T, run: impl FnOnce(&mut Filter) -> T) -> T {
    FILTER.with(|filter| match filter.try_borrow_mut() {
        Ok(mut filter) => run(filter.get_or_insert_with(Filter::new)),
        Err(_) => otherwise,
    })
}

/// The filter of one worker.
pub(crate) struct Filter {
    roots: Vec<Root>,
    /// The request that was created last, and its root context. Envoy creates a request's context
    /// right before it hands over its headers.
    created: (u32, u32),
    headers: HostBuffer,
    address: HostBuffer,
    responses: Responses,
    /// Ticks of all root contexts together.
    ticks: u64,
}

impl Filter {
    fn new() -> Self {
        std::panic::set_hook(Box::new(|panic| {
            host::log(LogLevel::Critical, &format!("keygate: the filter has failed: {panic}"));
        }));
        Self {
            roots: Vec::new(),
            created: (0, 0),
            headers: HostBuffer::default(),
            address: HostBuffer::default(),
            responses: Responses::new(),
            ticks: 0,
        }
    }

    pub(crate) fn on_context_create(&mut self, context: u32, parent: u32) {
        if parent != 0 {
            self.created = (context, parent);
        }
    }

    pub(crate) fn on_configure(&mut self, root: u32, size: usize) -> bool {
        let mut buffer = HostBuffer::default();
        let config = host::buffer(&mut buffer, BufferType::PluginConfiguration, size);
        match Root::new(root, config, self.ticks) {
            Ok(new) => {
                self.roots.retain(|present| present.id != root);
                self.roots.push(new);
                host::tick_every(TICK_MS);
                true
            }
            Err(unusable) => {
                host::log(LogLevel::Critical, &format!("keygate: {unusable}"));
                false
            }
        }
    }

    pub(crate) fn on_tick(&mut self, root: u32) {
        self.ticks += 1;
        let mut decisions = Vec::new();
        if let Some(root) = self.roots.iter_mut().find(|present| present.id == root) {
            root.last_tick = self.ticks;
            decisions = root.on_tick(host::now());
        }
        self.resume_all(root, decisions);
        let patience = GONE_TICKS * u64::try_from(self.roots.len()).unwrap_or(u64::MAX);
        let ticks = self.ticks;
        self.roots.retain(|root| ticks - root.last_tick < patience);
    }

    pub(crate) fn on_http_call_response(
        &mut self,
        root: u32,
        token: u32,
        headers: usize,
        body_size: usize,
    ) {
        let now = host::now();
        let mut decisions = Vec::new();
        if let Some(root) = self.roots.iter_mut().find(|present| present.id == root) {
            decisions = root.on_call_response(token, headers, body_size, now);
            root.write_log(None);
        }
        self.resume_all(root, decisions);
        self.flush(root);
    }

    /// Sends what a gate has to say, after everything that it has decided was carried out.
    fn flush(&mut self, root: u32) {
        let present = self.roots.iter_mut().find(|present| present.id == root);
        let decisions = present.map(|root| root.flush(host::now(), None)).unwrap_or_default();
        self.resume_all(root, decisions);
    }

    pub(crate) fn on_request_headers(&mut self, context: u32) -> Action {
        let (created, parent) = self.created;
        let mut roots = self.roots.iter_mut();
        let Some(root) = roots.find(|root| created == context && root.id == parent) else {
            return host::refuse_without_gate();
        };
        let Some(list) = host::header_pairs(&mut self.headers, MapType::HttpRequestHeaders) else {
            return host::refuse_without_gate();
        };
        let now = host::now();
        let seen = Seen::read(list, &root.gate);
        #[cfg(feature = "trap")]
        if seen.trap {
            std::process::abort();
        }
        let client = match root.gate.config().client_address {
            ClientAddressSource::Connection => host::source_address(&mut self.address),
            ClientAddressSource::Header(_) => seen.address,
        };
        let request = Request {
            stream: StreamId(context),
            method: seen.method,
            path: seen.path,
            credential: seen.credential,
            client: client.and_then(ClientAddress::parse),
        };
        let mut decision = root.gate.on_request(&request, now, &mut root.slots);
        if !matches!(decision, Decision::Pass(_)) || root.gate.has_log() || root.gate.has_question()
        {
            // A question that cannot even be sent is answered at once. If it is another's, nobody waits
            // for it: what others wait for was sent as they came, or as the last answer did.
            let origin = Origin::of(request.stream, list);
            let at_once = root.flush(now, Some(&origin));
            if let Some((_, decided)) = at_once.iter().find(|(stream, _)| *stream == request.stream)
            {
                decision = *decided;
            }
        }
        if !matches!(decision, Decision::Refuse(_)) {
            seen.clean_up(list, &root.gate);
        }
        match decision {
            Decision::Wait => Action::Pause,
            Decision::Refuse(refusal) => {
                refuse(&root.gate, &refusal, now);
                Action::Pause
            }
            Decision::Pass(pass) => {
                introduce(&root.gate, &pass);
                if let Some(report) = pass.report {
                    self.responses.expect(context, parent, report);
                }
                Action::Continue
            }
        }
    }

    pub(crate) fn on_response_headers(&mut self, context: u32) {
        let Some((root, report)) = self.responses.take(context) else {
            return;
        };
        let Some(root) = self.roots.iter().find(|present| present.id == root) else {
            return;
        };
        let name = root.gate.limit_name(&report);
        let headers = root.gate.rate_limit_headers();
        report.write_headers(name, headers, host::now(), |name, value| {
            host::set_header(MapType::HttpResponseHeaders, name.as_bytes(), value);
        });
    }

    /// Carries out what was decided on requests that had to wait.
    fn resume_all(&mut self, root: u32, decisions: Decisions) {
        if decisions.is_empty() {
            return;
        }
        let Some(gate) = self.roots.iter().find(|present| present.id == root).map(|r| &r.gate)
        else {
            return;
        };
        let now = host::now();
        for (StreamId(context), decision) in decisions {
            // The client may have gone in the meantime.
            if !host::turn_to(context) {
                continue;
            }
            match decision {
                Decision::Wait => {}
                Decision::Refuse(refusal) => refuse(gate, &refusal, now),
                Decision::Pass(pass) => {
                    introduce(gate, &pass);
                    if let Some(report) = pass.report {
                        self.responses.expect(context, root, report);
                    }
                    host::resume_request();
                }
            }
        }
        host::turn_to(root);
    }
}

/// What a request's headers say, found in one pass.
struct Seen<'a> {
    method: &'a [u8],
    path: &'a [u8],
    credential: Credential<'a>,
    address: Option<&'a [u8]>,
    /// Whether the client has sent headers that are the gate's to send.
    forged: bool,
    #[cfg(feature = "trap")]
    trap: bool,
}

impl<'a> Seen<'a> {
    fn read(list: &'a [u8], gate: &Gate) -> Self {
        let config = gate.config();
        let mut seen = Self {
            method: b"",
            path: b"",
            credential: Credential::Absent,
            address: None,
            forged: false,
            #[cfg(feature = "trap")]
            trap: false,
        };
        let address_header = address_header(gate);
        let mut addresses = 0;
        for (name, value) in pairs(list) {
            if name == b":method" {
                seen.method = value;
            } else if name == b":path" {
                seen.path = value;
            } else if name == config.credential_header.as_bytes() {
                seen.credential = match seen.credential {
                    Credential::Absent => Credential::One(value),
                    Credential::One(_) | Credential::Several => Credential::Several,
                };
            } else if Some(name) == address_header {
                addresses += 1;
                // Two would mean that Envoy did not overwrite what the client sent.
                seen.address = (addresses == 1).then_some(value);
            } else if is_own(name) {
                seen.forged = true;
                #[cfg(feature = "trap")]
                if name == b"x-keygate-trap" {
                    seen.trap = true;
                }
            }
        }
        seen
    }

    /// Takes out of the request what the upstream must not see.
    fn clean_up(&self, list: &[u8], gate: &Gate) {
        let config = gate.config();
        if self.forged {
            let address_header = address_header(gate);
            for (name, _) in pairs(list) {
                if is_own(name) && Some(name) != address_header {
                    host::remove_request_header(name);
                }
            }
        }
        if self.credential != Credential::Absent && !config.forward_credential {
            host::remove_request_header(config.credential_header.as_bytes());
        }
    }
}

fn address_header(gate: &Gate) -> Option<&[u8]> {
    match &gate.config().client_address {
        ClientAddressSource::Connection => None,
        ClientAddressSource::Header(name) => Some(name.as_bytes()),
    }
}

fn is_own(name: &[u8]) -> bool {
    name.len() > OWN_PREFIX.len()
        && name.iter().zip(OWN_PREFIX).all(|(&have, &want)| {
            have.eq_ignore_ascii_case(&want) || (have == b'_' && want == b'-')
        })
}

/// Tells the upstream who the request comes from.
fn introduce(gate: &Gate, pass: &Pass) {
    let Some(identity) = pass.entry.and_then(|entry| gate.identity(entry)) else {
        return;
    };
    let map = MapType::HttpRequestHeaders;
    let [key_id, scope, owner] = IDENTITY_HEADERS.map(str::as_bytes);
    host::set_header(map, key_id, identity.key_id.as_bytes());
    host::set_header(map, scope, identity.scope.as_bytes());
    if let Some(name) = identity.owner {
        host::set_header(map, owner, name.as_bytes());
    }
}

/// Answers a refused request.
fn refuse(gate: &Gate, refusal: &Refusal, now: Now) {
    let mut headers = PairsWriter::new();
    headers.add(b"content-type", b"application/problem+json");
    headers.add(b"cache-control", b"no-store");
    if refusal.challenges() {
        headers.add(b"www-authenticate", br#"ApiKey realm="keygate""#);
    }
    if let Some(seconds) = refusal.retry_after {
        headers.add(b"retry-after", seconds.to_string().as_bytes());
    }
    if let Some(report) = refusal.report {
        let name = gate.limit_name(&report);
        report.write_headers(name, gate.rate_limit_headers(), now, |name, value| {
            headers.add(name.as_bytes(), value);
        });
    }
    host::answer(refusal.status(), refusal.access_log_details(), &headers, refusal.body());
}
