//! Threads that enter namespaces, so that what they spawn is born there; the thread that asks stays where it is.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// A namespace and its kind.
pub(crate) type Namespace = (File, CloneFlags);

/// Opens namespaces of a process.
pub(crate) fn of(pid: u32, kinds: &[(&str, CloneFlags)]) -> anyhow::Result<Vec<Namespace>> {
    let open = |(name, flag): &(&str, CloneFlags)| {
        let path = format!("/proc/{pid}/ns/{name}");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        Ok((file, *flag))
    };
    kinds.iter().map(open).collect()
}

/// Does something in namespaces, on a thread of its own.
pub(crate) fn within<T: Send>(
    namespaces: &[Namespace],
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    on_own_thread(|| {
        enter(namespaces)?;
        work()
    })
}

/// Does something in new namespaces, on a thread of its own.
pub(crate) fn within_new<T: Send>(
    kinds: CloneFlags,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    on_own_thread(|| {
        unshare(kinds).context("cannot make namespaces; this needs root")?;
        work()
    })
}

/// Enters namespaces with this thread, for good.
pub(crate) fn enter(namespaces: &[Namespace]) -> anyhow::Result<()> {
    // A thread that shares its working directory with others may not change mounts.
    if namespaces.iter().any(|(_, kind)| kind.contains(CloneFlags::CLONE_NEWNS)) {
        unshare(CloneFlags::CLONE_FS).context("cannot leave the others' working directory")?;
    }
    for (file, kind) in namespaces {
        setns(file, *kind).with_context(|| format!("cannot enter a namespace ({kind:?})"))?;
    }
    Ok(())
}

/// Runs `ip` with arguments where this thread is.
pub(crate) fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .context("cannot run `ip`; install iproute2")?;
    if !output.status.success() {
        bail!("`ip {arguments}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
