//! Whether this process may change the network.

use std::path::Path;

/// Which bit of the capabilities lets a process change the network (`CAP_NET_ADMIN`).
const NET_ADMIN: u32 = 12;

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
    if !has_net_admin(&status) {
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

fn has_net_admin(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> NET_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_kernels_own_words() {
        assert!(has_net_admin("Name:\torchd\nCapEff:\t000001ffffffffff\n"));
        assert!(has_net_admin("CapEff:\t0000000000001000"));
        assert!(!has_net_admin("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"));
        assert!(!has_net_admin("") && !has_net_admin("CapEff:\tx"));
    }
}
