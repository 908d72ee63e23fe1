//! The guest: its boot, and how its tests went.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Is set in the guest.
const IN_GUEST: &str = "ORCH_TEST_IN_GUEST";
/// The directory of what the guest begins with.
const BEGIN: &str = "ORCH_TEST_GUEST";
/// How long a guest may take: some twenty times what it takes without KVM.
const GUEST_MAX: Duration = Duration::from_secs(600);
/// Its memory.
const MEMORY: &str = "1024M";

/// Does a test in the guest; elsewhere looks how it went there. The test is known by the function that its closure is in.
pub fn in_guest<T: FnOnce()>(test: T) {
    if std::env::var_os(IN_GUEST).is_some() {
        return test();
    }
    static SAID: OnceLock<String> = OnceLock::new();
    let said = SAID.get_or_init(boot);
    let path = std::any::type_name::<T>().trim_end_matches("::{{closure}}");
    let name = path.split_once("::").map_or(path, |(_program, name)| name);
    let told = format!("test {name} ... ");
    let outcome = said.lines().find_map(|line| line.strip_prefix(&told));
    let outcome = outcome.map_or("it was not come to", str::trim_end);
    assert_eq!(outcome, "ok", "{name}; the guest said:\n{said}");
}

/// Boots a guest, and waits for its end; all it says.
fn boot() -> String {
    let begin = std::env::var_os(BEGIN).map(PathBuf::from);
    let begin = begin.unwrap_or_else(|| panic!("{BEGIN} is not set; tests/run sets it"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (files, console) = (scratch.join("guest.cpio"), scratch.join("guest.log"));
    pack(&begin.join("begin.cpio"), &files);
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", &format!("file:{}", console.display())])
        .arg("-kernel")
        .arg(begin.join("vmlinuz"))
        .arg("-initrd")
        .arg(&files)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu-system-x86_64 is installed");
    let until = Instant::now() + GUEST_MAX;
    while qemu.try_wait().expect("a child").is_none() {
        if Instant::now() > until {
            qemu.kill().expect("it can be killed");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_file(&files).expect("it was written");
    let mut said = Vec::new();
    let log = File::open(&console).and_then(|mut file| file.read_to_end(&mut said));
    log.expect("what the guest said");
    String::from_utf8_lossy(&said).replace('\r', "")
}

/// Adds this program to what a guest begins with: the kernel takes archives one after the other.
fn pack(begin: &Path, files: &Path) {
    let dir = files.with_extension("d");
    std::fs::create_dir_all(&dir).expect("a directory");
    let suite = dir.join("suite");
    std::fs::copy(std::env::current_exe().expect("this program"), &suite).expect("copied");
    let mut all = std::fs::read(begin).expect("what a guest begins with");
    all.resize(all.len().next_multiple_of(512), 0);
    let packed = Command::new("sh")
        .args(["-c", "strip -g suite && echo suite | busybox cpio -o -H newc 2>/dev/null"])
        .current_dir(&dir)
        .output()
        .expect("a shell");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    all.extend(packed.stdout);
    std::fs::write(files, all).expect("written");
    std::fs::remove_dir_all(&dir).expect("it was made");
}
