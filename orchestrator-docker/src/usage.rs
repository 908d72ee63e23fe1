//! What containers use, from the kernel's files: control groups of version 1 and 2, and the network counters of a process.
//!
//! The engine's own statistics take a second per container. A file that is not there counts as 0, so on a machine that
//! is not the engine's nothing is found.

use std::fs;
use std::path::{Path, PathBuf};

use orchestrator_core::runtime::{ContainerKey, Usage};

/// How many files of a container are looked at for its disk use; with more of them it is unknown.
const DISK_ENTRIES_MAX: usize = 2_000;

/// A running container to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) key: ContainerKey,
    pub(crate) id: String,
    pub(crate) pid: u32,
    /// Where the engine keeps what the container writes: its layer and its log.
    pub(crate) written: Vec<PathBuf>,
}

/// Whether a process of this machine belongs to the container with this id.
pub(crate) fn is_in_container(pid: u32, id: &str) -> bool {
    Kernel::new(Path::new("/")).control_groups(pid).is_some_and(|groups| groups.contains(id))
}

/// Measures containers; those that have ended, or run on another machine, are left out.
pub(crate) fn measure(targets: Vec<Target>) -> Vec<Usage> {
    let kernel = Kernel::new(Path::new("/"));
    targets.into_iter().filter_map(|target| kernel.measure(target)).collect()
}

/// The kernel's files, below a root that tests choose.
#[derive(Debug)]
struct Kernel {
    root: PathBuf,
    mounts: Vec<GroupMount>,
}

/// Where a hierarchy of control groups is mounted.
#[derive(Debug, PartialEq, Eq)]
struct GroupMount {
    /// Its controllers; empty for version 2, which has all.
    controllers: Vec<String>,
    /// The group that is seen at the mount point; `/` unless we are in a container.
    group: String,
    point: String,
}

impl Kernel {
    fn new(root: &Path) -> Self {
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
        Self { root: root.to_owned(), mounts: mounts.lines().filter_map(group_mount).collect() }
    }

    fn measure(&self, target: Target) -> Option<Usage> {
        let groups = self.control_groups(target.pid)?;
        // The process may have ended and its id gone to another.
        if !groups.contains(&target.id) {
            return None;
        }
        let (network_received_bytes, network_sent_bytes) = self.network(target.pid);
        Some(Usage {
            cpu_nanos: self.cpu_nanos(&groups),
            memory_bytes: self.memory_bytes(&groups),
            disk_bytes: disk_bytes(&target.written),
            network_received_bytes,
            network_sent_bytes,
            key: target.key,
        })
    }

    fn control_groups(&self, pid: u32) -> Option<String> {
        self.read(&format!("proc/{pid}/cgroup"))
    }

    fn cpu_nanos(&self, groups: &str) -> u64 {
        match self.group(groups, "cpuacct") {
            Some(Group::One(group)) => self.number(&group, "cpuacct.usage"),
            Some(Group::Two(group)) => self.field(&group, "cpu.stat", "usage_usec") * 1000,
            None => 0,
        }
    }

    /// The working set: what is charged, less file pages that the kernel can drop.
    fn memory_bytes(&self, groups: &str) -> u64 {
        let (used, idle) = match self.group(groups, "memory") {
            Some(Group::One(group)) => (
                self.number(&group, "memory.usage_in_bytes"),
                self.field(&group, "memory.stat", "total_inactive_file"),
            ),
            Some(Group::Two(group)) => (
                self.number(&group, "memory.current"),
                self.field(&group, "memory.stat", "inactive_file"),
            ),
            None => (0, 0),
        };
        used.saturating_sub(idle)
    }

    /// Bytes received and sent by the interfaces of the process's network, without the loopback.
    fn network(&self, pid: u32) -> (u64, u64) {
        let table = self.read(&format!("proc/{pid}/net/dev")).unwrap_or_default();
        let interfaces = table.lines().filter_map(|line| line.split_once(':'));
        interfaces.filter(|(name, _)| name.trim() != "lo").fold((0, 0), |sum, (_, counters)| {
            let mut counters = counters.split_ascii_whitespace().map(|it| it.parse().unwrap_or(0));
            let received: u64 = counters.next().unwrap_or(0);
            let sent: u64 = counters.nth(7).unwrap_or(0);
            (sum.0 + received, sum.1 + sent)
        })
    }

    /// Finds the directory of the control group that a controller accounts in. `groups` are lines `id:controllers:path`.
    fn group(&self, groups: &str, controller: &str) -> Option<Group> {
        let lines: Vec<(&str, &str)> =
            groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
        let has = |list: &str| list.split(',').any(|it| it == controller);
        let directory = |mount: &GroupMount, path: &str| {
            let path = path.strip_prefix(&mount.group).unwrap_or(path);
            format!("{}/{}", mount.point, path.trim_start_matches('/'))
        };
        let one = lines.iter().find(|(controllers, _)| has(controllers)).and_then(|(_, path)| {
            let mount = self.mounts.iter().find(|it| it.controllers.iter().any(|it| has(it)))?;
            Some(Group::One(directory(mount, path)))
        });
        one.or_else(|| {
            let (_, path) = lines.iter().find(|(controllers, _)| controllers.is_empty())?;
            let mount = self.mounts.iter().find(|mount| mount.controllers.is_empty())?;
            Some(Group::Two(directory(mount, path)))
        })
    }

    fn number(&self, group: &str, file: &str) -> u64 {
        self.read(&format!("{group}/{file}")).and_then(|it| it.trim().parse().ok()).unwrap_or(0)
    }

    fn field(&self, group: &str, file: &str, name: &str) -> u64 {
        let text = self.read(&format!("{group}/{file}")).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(field, _)| *field == name).and_then(|(_, it)| it.parse().ok()).unwrap_or(0)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()
    }
}

/// The directory of a control group, by version.
#[derive(Debug, PartialEq, Eq)]
enum Group {
    One(String),
    Two(String),
}

/// Reads a line of `mountinfo`: `… group point options [tags] - type source controllers`.
fn group_mount(line: &str) -> Option<GroupMount> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (group, point) = (mount.next()?.to_owned(), mount.next()?.to_owned());
    let mut kind = kind.split(' ');
    let controllers = match kind.next()? {
        "cgroup2" => Vec::new(),
        "cgroup" => kind.nth(1)?.split(',').map(str::to_owned).collect(),
        _ => return None,
    };
    Some(GroupMount { controllers, group, point })
}

/// Adds up the blocks of all files below `paths`; 0 when there are too many to look at.
fn disk_bytes(paths: &[PathBuf]) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let mut pending: Vec<PathBuf> = paths.to_vec();
    let (mut bytes, mut seen) = (0, 0);
    while let Some(path) = pending.pop() {
        seen += 1;
        if seen > DISK_ENTRIES_MAX {
            return 0;
        }
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
            pending.extend(entries.take(DISK_ENTRIES_MAX + 1).map(|entry| entry.path()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::Uid;
    use orchestrator_core::runtime::{SandboxKey, Scope};

    use super::*;

    const DEV: &str = "Inter-|   Receive                |  Transmit\n face |bytes packets\n\
        \u{20}   lo: 900 9 0 0 0 0 0 0 900 9 0 0 0 0 0 0\n\
        \u{20} eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n";

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        root
    }

    fn measured(root: &tempfile::TempDir) -> Option<Usage> {
        let scope = Scope { cluster: "home".to_owned(), node: "n1".to_owned() };
        let sandbox = SandboxKey { scope, pod: Uid::default(), attempt: 0 };
        let key = ContainerKey { sandbox, name: "web".to_owned(), attempt: 0 };
        let target = Target { key, id: "4c01".to_owned(), pid: 7, written: Vec::new() };
        Kernel::new(root.path()).measure(target)
    }

    #[test]
    fn version_1_groups_are_read() {
        let root = machine(&[
            (
                "proc/self/mountinfo",
                "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                 31 25 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n",
            ),
            ("proc/7/cgroup", "3:memory:/docker/4c01\n2:cpu,cpuacct:/docker/4c01\n"),
            ("proc/7/net/dev", DEV),
            ("sys/fs/cgroup/cpu,cpuacct/docker/4c01/cpuacct.usage", "123456\n"),
            ("sys/fs/cgroup/memory/docker/4c01/memory.usage_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/docker/4c01/memory.stat", "cache 9\ntotal_inactive_file 400\n"),
        ]);
        let usage = measured(&root).expect("measured");
        assert_eq!((usage.cpu_nanos, usage.memory_bytes), (123_456, 600));
        assert_eq!((usage.network_received_bytes, usage.network_sent_bytes), (100, 200));
    }

    #[test]
    fn version_2_groups_are_read_also_from_within_a_group() {
        let root = machine(&[
            ("proc/self/mountinfo", "30 25 0:26 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("proc/7/cgroup", "0::/outer/system.slice/docker-4c01.scope\n"),
            (
                "sys/fs/cgroup/system.slice/docker-4c01.scope/cpu.stat",
                "usage_usec 5\nuser_usec 3\n",
            ),
            ("sys/fs/cgroup/system.slice/docker-4c01.scope/memory.current", "1000\n"),
            ("sys/fs/cgroup/system.slice/docker-4c01.scope/memory.stat", "inactive_file 1\n"),
        ]);
        let usage = measured(&root).expect("measured");
        assert_eq!((usage.cpu_nanos, usage.memory_bytes), (5_000, 999));
    }

    #[test]
    fn a_process_id_that_went_to_another_is_not_measured() {
        assert_eq!(measured(&machine(&[("proc/7/cgroup", "0::/user.slice\n")])), None);
        assert_eq!(measured(&machine(&[])), None);
    }

    #[test]
    fn disk_use_counts_blocks_and_gives_up_on_very_many_files() {
        let root = machine(&[("a/one", "x"), ("a/b/two", "x")]);
        let all = disk_bytes(&[root.path().join("a")]);
        assert!(all >= disk_bytes(&[root.path().join("a/b")]), "{all}");
        assert_eq!(disk_bytes(&[root.path().join("absent")]), 0);
        assert_eq!(disk_bytes(&vec![root.path().join("a/one"); DISK_ENTRIES_MAX + 1]), 0);
    }
}
