//! A fresh clone until the end of the demo, build included: what a new user waits. Minutes, so only with `--fresh-clone`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Outcome;
use crate::report::{Report, Unit};

/// How long it may take on two cores, in seconds.
const SECONDS_MAX: f64 = 240.0;
const NAME: &str = "fresh clone until the demo's end";

/// Clones the newest commit, builds it from nothing and runs the demo on processes.
pub fn run(report: &mut Report) -> Outcome {
    if !report.options.fresh_clone {
        if report.wants(NAME) {
            report.leave_out(NAME, "it takes minutes; `--fresh-clone` measures it");
        }
        return Ok(());
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let clone = dir.path().join("clone");
    let start = Instant::now();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let git =
        Command::new("git").args(["clone", "--quiet"]).arg(&workspace).arg(&clone).status()?;
    if !git.success() {
        return Err("git clone failed".into());
    }
    let demo =
        ["run", "--release", "--bin", "orchd", "--", "demo", "--exit", "--runtime", "process"];
    let demo = Command::new(env!("CARGO"))
        .args(demo)
        .current_dir(&clone)
        .env("CARGO_TARGET_DIR", dir.path().join("target"))
        .stdout(Stdio::null())
        .status()?;
    if !demo.success() {
        return Err("the demo of a fresh clone failed".into());
    }
    report.against(NAME, Unit::Seconds, SECONDS_MAX, &[start.elapsed().as_secs_f64()]);
    Ok(())
}
