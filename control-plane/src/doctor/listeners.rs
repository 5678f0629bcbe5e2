//! Who can reach the listeners, and what can be overheard on the way.

use edge_protocol::Deployment;
use std::net::SocketAddr;

use super::finding::{Check, Finding};
use crate::config::ServeConfig;

pub(super) fn examine(serving: &ServeConfig, environment: Deployment) -> Vec<Finding> {
    let open = |address: SocketAddr| !address.ip().is_loopback();
    let mut findings = Vec::new();
    let mut warn = |what: String, mend: &str| {
        findings.push(Finding::warning(Check::Listeners, what, mend));
    };
    if open(serving.listen) && serving.tls.is_none() {
        warn(
            format!(
                "the admin listener ({}) can be reached from other machines and speaks no TLS: admin \
                 keys can be overheard",
                serving.listen
            ),
            "set KEYGATE_TLS_CERT_FILE and KEYGATE_TLS_KEY_FILE, or make sure that only this machine \
             reaches it, as docker-compose.yml does (docs/tls.md)",
        );
    }
    if open(serving.edge_listen) && serving.edge_tls.is_none() {
        warn(
            format!(
                "the listener for filters ({}) can be reached from other machines and speaks no TLS: \
                 API keys and the token can be overheard",
                serving.edge_listen
            ),
            "set KEYGATE_EDGE_TLS_CERT_FILE and KEYGATE_EDGE_TLS_KEY_FILE, or give it a network that \
             only Envoy and the control plane are in (docs/tls.md)",
        );
    }
    if environment != Deployment::Production && (open(serving.listen) || open(serving.edge_listen))
    {
        warn(
            format!(
                "a service of the environment `{environment}` can be reached from other machines"
            ),
            "if it is used in earnest set KEYGATE_ENVIRONMENT=production; else listen on 127.0.0.1",
        );
    }
    let certified = serving.edge_tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
    if serving.edge_token.is_none() && !certified {
        findings.push(Finding::failed(
            Check::Listeners,
            "no filter is let in: there is neither a token nor an authority for their certificates",
            "set KEYGATE_EDGE_TOKEN (make one: openssl rand -hex 32), or \
             KEYGATE_EDGE_TLS_CLIENT_CA_FILE (docs/tls.md)",
        ));
    }
    if findings.is_empty() {
        let (admin, edge) = (serving.listen, serving.edge_listen);
        findings
            .push(Finding::ok(Check::Listeners, format!("admin at {admin}, filters at {edge}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        doctor::{finding::Status, tests::settings},
    };

    fn found(variables: &[(&str, &str)]) -> Vec<(Status, String)> {
        let settings = settings(variables);
        let config = Config::new(&settings).expect("config");
        let serving = ServeConfig::new(&settings, &config).expect("config");
        let found = examine(&serving, config.environment).into_iter();
        found.map(|it| (it.status, it.what)).collect()
    }

    #[test]
    fn a_listener_that_others_reach_without_tls_is_told() {
        for (name, of) in [
            ("KEYGATE_LISTEN", "admin keys can be overheard"),
            ("KEYGATE_EDGE_LISTEN", "the token can be overheard"),
        ] {
            let found = found(&[(name, "0.0.0.0:9000")]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].0 == Status::Warning && found[0].1.contains(of), "{found:?}");
        }
        let loopback = found(&[("KEYGATE_LISTEN", "[::1]:9000")]);
        assert_eq!(loopback[0].0, Status::Ok, "{loopback:?}");
    }

    #[test]
    fn with_tls_a_listener_may_be_open() {
        let found = found(&[
            ("KEYGATE_LISTEN", "0.0.0.0:9000"),
            ("KEYGATE_TLS_CERT_FILE", "a.pem"),
            ("KEYGATE_TLS_KEY_FILE", "a.key"),
        ]);
        assert_eq!((found.len(), found[0].0), (1, Status::Ok), "{found:?}");
    }

    #[test]
    fn a_try_out_that_others_reach_is_told() {
        let found =
            found(&[("KEYGATE_ENVIRONMENT", "development"), ("KEYGATE_LISTEN", "0.0.0.0:9000")]);
        assert!(found.iter().any(|(_, what)| what.contains("`development`")), "{found:?}");
    }

    #[test]
    fn where_no_filter_is_let_in_it_is_a_failure() {
        let none = found(&[("KEYGATE_EDGE_TOKEN", "")]);
        assert_eq!(none[0].0, Status::Failed, "{none:?}");
        let certified = found(&[
            ("KEYGATE_EDGE_TOKEN", ""),
            ("KEYGATE_EDGE_TLS_CERT_FILE", "a.pem"),
            ("KEYGATE_EDGE_TLS_KEY_FILE", "a.key"),
            ("KEYGATE_EDGE_TLS_CLIENT_CA_FILE", "ca.pem"),
        ]);
        assert_eq!(certified[0].0, Status::Ok, "{certified:?}");
    }
}
