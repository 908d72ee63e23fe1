//! `orchd machine`: the first process of a machine. It sets up mounts and host name, and takes in orphans until its input ends.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::sethostname;
use tokio::signal::unix::{SignalKind, signal};

/// The verb of `orchd` that becomes the first process of a machine.
pub const INIT_VERB: &str = "machine";
/// What it prints when the machine is set up.
pub(crate) const READY: &str = "up";
/// Where the kernel tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Options of `orchd machine`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The machine's host name
    #[arg(long)]
    name: String,
}

/// Is the first process of a machine until its standard input ends.
///
/// # Errors
/// When it is not in namespaces of its own, or the kernel refuses.
pub async fn init(args: InitArgs) -> anyhow::Result<()> {
    ensure!(
        std::process::id() == 1,
        "`orchd {INIT_VERB}` is the first process of a machine; `orchd demo --nodes 3` makes some"
    );
    set_up(&args.name)?;
    let mut orphans = signal(SignalKind::child())?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")
        .and_then(|()| stdout.flush())
        .context("cannot say that it is up")?;
    // The end of its input is the end of whoever booted it, and the kernel ends everything else with this process.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    while orphans.recv().await.is_some() {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status.pid().is_none() {
                break;
            }
        }
    }
    Ok(())
}

fn set_up(name: &str) -> anyhow::Result<()> {
    const NOTHING: Option<&str> = None;
    // First of all: nothing of what follows may show elsewhere.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NOTHING, "/", NOTHING, private, NOTHING).context("cannot make the mounts private")?;
    let none = MsFlags::empty();
    mount(Some("proc"), "/proc", Some("proc"), none, NOTHING).context("cannot mount /proc")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), none, NOTHING).context("cannot mount /run")?;
    let boot = uuid::Uuid::new_v4();
    std::fs::write("/run/boot-id", format!("{boot}\n")).context("cannot write /run/boot-id")?;
    mount(Some("/run/boot-id"), BOOT_ID, NOTHING, MsFlags::MS_BIND, NOTHING)
        .with_context(|| format!("cannot replace {BOOT_ID}"))?;
    sethostname(name).context("cannot set the host name")
}
