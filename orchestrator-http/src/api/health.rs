//! `/livez`, `/readyz` and `/healthz`: whether the server can be relied on, for probes and load balancers.
//!
//! Nobody is asked who they are here, so nobody learns more than names of checks and whether they hold.

use std::time::Duration;

use http::{Response, StatusCode, Uri};
use orchestrator_core::driver::Cluster;

use super::plain;
use crate::body::Body;

/// How long a store that several servers share may take to answer a check.
const STORE_WITHIN: Duration = Duration::from_secs(2);

/// Answers `ok`, or with `?verbose` (and whenever something fails) check by check, as Kubernetes prints it.
pub(super) async fn answer(uri: &Uri, cluster: &Cluster) -> Response<Body> {
    let name = uri.path().trim_matches('/');
    // A server that does not decide any more cannot be mended by starting its process anew: it is alive, but not ready.
    let mut checks = vec![("ping", true)];
    if name != "livez" {
        checks.push(("control-plane", cluster.is_running()));
        // One that has its state to itself ends when that is lost.
        if cluster.is_shared() {
            let newest = tokio::time::timeout(STORE_WITHIN, cluster.catch_up()).await;
            checks.push(("store", matches!(newest, Ok(Ok(_)))));
        }
    }
    let holds = checks.iter().all(|(_, holds)| *holds);
    if holds && !is_verbose(uri) {
        return plain("ok");
    }
    let mut text = String::new();
    for (check, holds) in &checks {
        text.push_str(&match holds {
            true => format!("[+]{check} ok\n"),
            false => format!("[-]{check} failed: reason withheld\n"),
        });
    }
    text.push_str(&format!("{name} check {}\n", if holds { "passed" } else { "failed" }));
    let mut response = plain(text);
    if !holds {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

/// Whether `verbose` is among the parameters, with whatever value.
fn is_verbose(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    query.split('&').any(|parameter| parameter.split('=').next() == Some("verbose"))
}
