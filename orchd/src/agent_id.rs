//! What tells this agent from a copy of it: the machine, the place of its data, and the machine's boot.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use orchestrator_core::model::AgentId;

/// Where Linux says which machine it is, and which boot of it.
const MACHINE_ID: &str = "/etc/machine-id";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of the agent of a data directory. A copy of the directory is another file, on whatever machine.
pub fn agent_id(dir: &Path) -> anyhow::Result<AgentId> {
    let place = fs::metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    let boot = fs::read_to_string(BOOT_ID).with_context(|| format!("cannot read {BOOT_ID}"))?;
    // Not every machine has one.
    let machine = fs::read_to_string(MACHINE_ID).unwrap_or_default();
    let hex = |text: &str| text.chars().filter(char::is_ascii_hexdigit).collect::<String>();
    Ok(AgentId::new(&format!("{}{:x}", hex(&machine), place.ino()), &hex(&boot))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_directory_is_another_installation() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let [one, other] = dirs.each_ref().map(|dir| agent_id(dir.path()).expect("readable"));
        assert!(!one.is_same_installation(&other));
        assert_eq!(agent_id(dirs[0].path()).expect("readable"), one, "and the same again");
    }
}
