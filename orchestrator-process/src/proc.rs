//! Reads `/proc`: who runs, since when, under whom, and what it uses.
//!
//! A pid names a process only together with its start time: pids are used again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// One process, as `/proc/PID/stat` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// When it began, in clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// CPU time of it and its reaped children, in clock ticks.
    pub(crate) cpu_ticks: u64,
    /// Resident memory, in pages.
    pub(crate) pages: u64,
    /// Whether it has ended and waits to be reaped.
    pub(crate) ended: bool,
}

impl Process {
    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything: parentheses, spaces, digits.
        let (head, tail) = text.rsplit_once(')')?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        // `fields[0]` is field 3 of proc(5).
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let id = |field: usize| fields.get(field - 3)?.parse::<i32>().ok();
        Some(Self {
            pid,
            parent: id(4)?,
            session: id(6)?,
            start_ticks: number(22)?,
            cpu_ticks: (14..=17).filter_map(number).sum(),
            pages: number(24)?,
            ended: matches!(fields.first(), Some(&"Z" | &"X")),
        })
    }

    /// Whether its environment, as it was when its program began, holds `variable`.
    pub(crate) fn began_with(&self, variable: &str) -> bool {
        let environ = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    }
}

/// Whether the process that began at `start_ticks` with this pid still runs.
pub(crate) fn is_running(pid: i32, start_ticks: u64) -> bool {
    Process::read(pid).is_some_and(|it| it.start_ticks == start_ticks && !it.ended)
}

/// Returns all processes, by pid.
pub(crate) fn processes() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).map(|process| (process.pid, process)).collect()
}

/// Returns the pids of all descendants of a process.
pub(crate) fn descendants(processes: &BTreeMap<i32, Process>, root: i32) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in processes.values() {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found
}

/// Returns the identity of this boot of the machine; empty if the kernel does not tell.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Returns how many nanoseconds a clock tick lasts.
pub(crate) fn tick_nanos() -> u64 {
    1_000_000_000 / positive(SysconfVar::CLK_TCK, 100)
}

/// Returns how many bytes a page of memory has.
pub(crate) fn page_bytes() -> u64 {
    positive(SysconfVar::PAGE_SIZE, 4096)
}

fn positive(variable: SysconfVar, otherwise: u64) -> u64 {
    let value = sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
    value.filter(|value| *value > 0).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c 9) S 7 8 9 0 -1 4194304 1 2 3 4 100 50 20 10 20 0 1 0 12345 \
            1000000 77 18446744073709551615 0";
        let process = Process::parse(text).expect("a stat line");
        assert_eq!((process.pid, process.parent, process.session), (42, 7, 9));
        assert_eq!((process.start_ticks, process.cpu_ticks, process.pages), (12345, 180, 77));
        assert_eq!(Process::parse("42 (cut"), None);
    }

    #[test]
    fn a_used_again_pid_is_another_process() {
        let me = Process::read(i32::try_from(std::process::id()).expect("a pid")).expect("myself");
        assert!(is_running(me.pid, me.start_ticks));
        assert!(!is_running(me.pid, me.start_ticks + 1), "same pid, other start");
        assert!(descendants(&processes(), me.parent).contains(&me.pid));
    }
}
