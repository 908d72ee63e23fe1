//! Whether this process may change the network.

use std::path::Path;

/// Which bit of the capabilities lets a process change the network (`CAP_NET_ADMIN`), see into others' (`CAP_SYS_PTRACE`) and
/// enter those (`CAP_SYS_ADMIN`).
const NET_ADMIN: u32 = 12;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
/// Which tables the older firewall has; it drops what it does not know, and nothing that is done elsewhere changes that.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";

/// What this process may do to the network of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It may change it.
    Full,
    /// It may not; the text says what it lacks.
    Lacking(String),
}

/// Finds out what this process may do.
pub fn privilege() -> Privilege {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !has(&status, NET_ADMIN) {
        return Privilege::Lacking(
            "the capability CAP_NET_ADMIN is needed, which root has".to_owned(),
        );
    }
    let forward = Path::new(crate::route::IP_FORWARD);
    match std::fs::OpenOptions::new().write(true).open(forward) {
        Ok(_) => Privilege::Full,
        Err(error) => {
            Privilege::Lacking(format!("{} must be writable: {error}", forward.display()))
        }
    }
}

/// Finds out whether this process may tie pods to the network too, beyond what [`privilege`] says.
pub fn wire_privilege() -> Privilege {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (number, name) in [(SYS_ADMIN, "CAP_SYS_ADMIN"), (SYS_PTRACE, "CAP_SYS_PTRACE")] {
        if !has(&status, number) {
            return Privilege::Lacking(format!("the capability {name} is needed, which root has"));
        }
    }
    let legacy = std::fs::read_to_string(LEGACY_TABLES).unwrap_or_default();
    if legacy.lines().any(|table| table == "filter") {
        let text = "iptables-legacy keeps the machine's firewall; iptables-nft is needed";
        return Privilege::Lacking(text.to_owned());
    }
    Privilege::Full
}

fn has(status: &str, capability: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> capability & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_kernels_own_words() {
        assert!(has("Name:\torchd\nCapEff:\t000001ffffffffff\n", NET_ADMIN));
        assert!(has("CapEff:\t0000000000001000", NET_ADMIN));
        assert!(!has("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n", NET_ADMIN));
        assert!(!has("", NET_ADMIN) && !has("CapEff:\tx", NET_ADMIN));
    }
}
