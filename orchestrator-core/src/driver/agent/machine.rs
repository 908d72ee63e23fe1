//! What the machine is and uses, read from the kernel's files.
//!
//! A file that cannot be read or understood counts as empty: a node is better registered with a zero than
//! not at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::{NodeSystemInfo, Quantity, ResourceMap};

/// What a node says its agent is.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// What machine a node stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// One that is made up, and uses nothing itself: for simulations.
    MadeUp {
        /// How many CPUs it has.
        cpus: i64,
        /// Its memory, in bytes.
        memory_bytes: i64,
        /// Its disk, in bytes.
        disk_bytes: i64,
    },
    /// The one this process runs on, as the kernel's files tell.
    #[default]
    This,
}

/// What the machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub host_name: String,
    pub cpus: i64,
    pub memory_bytes: i64,
    pub disk_bytes: i64,
    pub info: NodeSystemInfo,
}

/// Counters and amounts of the whole machine at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineUse {
    /// Time all CPUs worked and existed, in clock ticks since boot.
    pub cpu_busy_ticks: u64,
    pub cpu_all_ticks: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub network_received_bytes: u64,
    pub network_sent_bytes: u64,
}

impl Facts {
    /// Finds out what a machine is. For this one it reads on a thread of its own.
    pub async fn of(machine: Machine, disk_path: PathBuf) -> Self {
        match machine {
            Machine::MadeUp { cpus, memory_bytes, disk_bytes } => Self {
                host_name: String::new(),
                cpus,
                memory_bytes,
                disk_bytes,
                info: NodeSystemInfo {
                    architecture: architecture().to_owned(),
                    kubelet_version: VERSION.to_owned(),
                    operating_system: std::env::consts::OS.to_owned(),
                    ..NodeSystemInfo::default()
                },
            },
            Machine::This => {
                let read = move || Self::read(&disk_path);
                tokio::task::spawn_blocking(read).await.unwrap_or_default()
            }
        }
    }

    /// Reads what the machine is. Blocks for as long as reading a few small files takes.
    pub fn read(disk_path: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = memory(&text("/proc/meminfo"));
        let info = NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: text("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            container_runtime_version: String::new(),
            kernel_version: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            kube_proxy_version: String::new(),
            kubelet_version: VERSION.to_owned(),
            machine_id: text("/etc/machine-id").trim().to_owned(),
            operating_system: std::env::consts::OS.to_owned(),
            os_image: os_image(&text("/etc/os-release")),
            system_uuid: text("/sys/class/dmi/id/product_uuid").trim().to_owned(),
        };
        Self {
            host_name: text("/proc/sys/kernel/hostname").trim().to_owned(),
            cpus: i64::try_from(cpus).unwrap_or(1),
            memory_bytes: i64::try_from(memory.total).unwrap_or(i64::MAX),
            disk_bytes: i64::try_from(disk(disk_path).0).unwrap_or(i64::MAX),
            info,
        }
    }

    /// What a node with these facts has.
    pub fn capacity(&self, pods_max: i64) -> ResourceMap {
        let mut capacity: ResourceMap = [
            ("cpu".to_owned(), Quantity::from_units(self.cpus)),
            ("memory".to_owned(), Quantity::from_bytes(self.memory_bytes)),
            ("pods".to_owned(), Quantity::from_units(pods_max)),
        ]
        .into();
        if self.disk_bytes > 0 {
            let disk = Quantity::from_bytes(self.disk_bytes);
            capacity.insert("ephemeral-storage".to_owned(), disk);
        }
        capacity
    }
}

impl MachineUse {
    /// Finds out what a machine uses. For this one it reads on a thread of its own.
    pub async fn of(machine: Machine, disk_path: PathBuf) -> Self {
        match machine {
            Machine::MadeUp { .. } => Self::default(),
            Machine::This => {
                let read = move || Self::read(&disk_path);
                tokio::task::spawn_blocking(read).await.unwrap_or_default()
            }
        }
    }

    /// Reads what the machine uses. Blocks for as long as reading a few small files takes.
    pub fn read(disk_path: &Path) -> Self {
        let (cpu_busy_ticks, cpu_all_ticks) = cpu_ticks(&text("/proc/stat"));
        let (network_received_bytes, network_sent_bytes) = network(&text("/proc/net/dev"));
        Self {
            cpu_busy_ticks,
            cpu_all_ticks,
            memory_bytes: memory(&text("/proc/meminfo")).used(),
            disk_bytes: disk(disk_path).1,
            network_received_bytes,
            network_sent_bytes,
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The architecture by the name that images and selectors use.
const fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
    }
}

fn os_image(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("").trim_matches('"').to_owned()
}

#[derive(Debug, PartialEq, Eq)]
struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    const fn used(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

fn memory(meminfo: &str) -> Memory {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.unwrap_or(0).saturating_mul(1024)
    };
    Memory { total: bytes("MemTotal"), available: bytes("MemAvailable") }
}

/// Returns the ticks all CPUs worked and existed. Time of guests is counted in user time already.
fn cpu_ticks(stat: &str) -> (u64, u64) {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let numbers = line.unwrap_or("").split_whitespace().take(8);
    let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap_or(0)).collect();
    let all: u64 = numbers.iter().sum();
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    (all.saturating_sub(idle), all)
}

/// Returns the bytes received and sent by every interface but loopback.
fn network(dev: &str) -> (u64, u64) {
    let interfaces = dev.lines().filter_map(|line| line.split_once(':'));
    let others = interfaces.filter(|(name, _)| name.trim() != "lo");
    others.fold((0, 0), |(received, sent), (_, numbers)| {
        let column = |index: usize| -> u64 {
            numbers.split_whitespace().nth(index).and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        (received + column(0), sent + column(8))
    })
}

/// Returns the size and the use of the disk that holds a path, in bytes.
#[allow(clippy::useless_conversion)] // these are narrower on 32-bit machines
fn disk(path: &Path) -> (u64, u64) {
    let Ok(stat) = nix::sys::statvfs::statvfs(path) else { return (0, 0) };
    let fragment = u64::from(stat.fragment_size());
    let blocks = u64::from(stat.blocks());
    let used = blocks.saturating_sub(u64::from(stat.blocks_free()));
    (blocks.saturating_mul(fragment), used.saturating_mul(fragment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_understood() {
        let meminfo = "MemTotal:  2000 kB\nMemFree: 100 kB\nMemAvailable:   500 kB\n";
        assert_eq!(memory(meminfo).used(), 1500 * 1024);
        let stat = "cpu  10 1 5 100 20 0 2 0 7 0\ncpu0 5 0 2 50 10 0 1 0 0 0\n";
        assert_eq!(cpu_ticks(stat), (18, 138));
        let dev = "Inter-|   Receive\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1\n  \
            eth0: 100 1 0 0 0 0 0 0 200 2\n  eth1:5 1 0 0 0 0 0 0 6 2\n";
        assert_eq!(network(dev), (105, 206));
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }

    #[test]
    fn files_that_make_no_sense_count_as_empty() {
        assert_eq!(memory("MemTotal: lots"), Memory { total: 0, available: 0 });
        assert_eq!(cpu_ticks("cpu a b"), (0, 0));
        assert_eq!(network("eth0: x"), (0, 0));
    }

    #[test]
    fn this_machine_has_memory_and_a_disk() {
        let facts = Facts::read(Path::new("/"));
        assert!(facts.cpus > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0, "{facts:?}");
        assert!(facts.capacity(110).contains_key("pods"));
    }
}
