//! From an empty directory to what a first `kubectl get` prints, beside the same command against a server that runs already:
//! what is more than that is our start.

use std::path::PathBuf;
use std::time::Instant;

use orchestrator_tests::kubectl::Kubectl;

use crate::daemon::{self, Daemon, Failure};
use crate::report::{Floor, Report, Unit};

const NAME: &str = "empty directory until kubectl get, against kubectl get";

/// The start takes no longer than kubectl itself.
const FLOOR: Floor = Floor(Some(0.5));

/// Measures it, if there is a kubectl.
pub fn run(report: &mut Report) -> Result<(), Failure> {
    if !report.wants(NAME) {
        return Ok(());
    }
    let Some(kubectl) = std::env::var_os("ORCH_TEST_KUBECTL").map(PathBuf::from) else {
        report.missing(
            NAME,
            "$ORCH_TEST_KUBECTL names no kubectl; `tests/bench` finds or builds one",
        );
        return Ok(());
    };
    let mut program = None;
    let program = daemon::built(&mut program)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut figures = Vec::new();
    for pair in 0..=report.options.pairs {
        let start = Instant::now();
        let daemon = Daemon::start(program, "process", None)?;
        runtime.block_on(get(&kubectl, &daemon))?;
        let ours = start.elapsed();
        let start = Instant::now();
        runtime.block_on(get(&kubectl, &daemon))?;
        let alone = start.elapsed();
        daemon.stop()?;
        // The first round reads both programs from disk.
        if pair > 0 {
            figures.push((ours.as_secs_f64() * 1_000.0, alone.as_secs_f64() * 1_000.0));
        }
    }
    report.pairs(NAME, Unit::Milliseconds, FLOOR, &figures);
    Ok(())
}

/// Gets the nodes with a kubectl that has no cache yet.
async fn get(kubectl: &std::path::Path, daemon: &Daemon) -> Result<(), Failure> {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let kubectl = Kubectl::of(kubectl, &daemon.dir().join("kubeconfig"), home.path());
    let said = kubectl.run("get nodes").await;
    if said.code != 0 || !said.stdout.contains("local") {
        return Err(format!("kubectl get nodes: {said:?}").into());
    }
    Ok(())
}
