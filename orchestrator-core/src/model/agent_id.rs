//! `AgentId`: which agent speaks for a node, so that a copy of its identity on another machine is told from it.

use std::fmt;
use std::str::FromStr;

use super::node::Node;

/// The annotation with which a node tells the [`AgentId`] of its agent.
pub const AGENT_ANNOTATION: &str = "orchestrator.dev/agent";
/// How long each part may be.
const PART_CHARS_MAX: usize = 64;

/// What an agent is known by beside its certificate, which is copied with the directory that it lies in: its installation (the
/// machine and the directory), and the boot of the machine. Written `INSTALLATION.BOOT`; each part is lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentId {
    installation: String,
    boot: String,
}

impl AgentId {
    /// Makes one of two hashes.
    ///
    /// # Errors
    /// [`InvalidAgentId`] when one is not 1 to 64 lower-case hexadecimal digits.
    pub fn new(installation: &str, boot: &str) -> Result<Self, InvalidAgentId> {
        let is_hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        for part in [installation, boot] {
            if part.is_empty() || part.len() > PART_CHARS_MAX || !part.bytes().all(is_hex) {
                return Err(InvalidAgentId { text: format!("{installation}.{boot}") });
            }
        }
        Ok(Self { installation: installation.to_owned(), boot: boot.to_owned() })
    }

    /// Reads what a node tells of its agent, if it tells it.
    pub fn of_node(node: &Node) -> Option<Self> {
        node.metadata.annotations.get(AGENT_ANNOTATION)?.parse().ok()
    }

    /// Whether both are of one installation, perhaps of different boots.
    pub fn is_same_installation(&self, other: &Self) -> bool {
        self.installation == other.installation
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.installation, self.boot)
    }
}

impl FromStr for AgentId {
    type Err = InvalidAgentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAgentId { text: text.to_owned() };
        let (installation, boot) = text.split_once('.').ok_or_else(invalid)?;
        Self::new(installation, boot)
    }
}

/// A text that is no [`AgentId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no agent: two hexadecimal numbers with a dot between them are needed")]
pub struct InvalidAgentId {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = AgentId::new("0a1b", "ff").expect("hexadecimal");
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert!(id.is_same_installation(&AgentId::new("0a1b", "00").expect("hexadecimal")));
        for bad in ["", "0a1b", ".ff", "0a1b.", "0A1B.ff", "0a1b.ff.ff", &"a".repeat(65)] {
            let error = bad.parse::<AgentId>().expect_err(bad).to_string();
            assert!(error.contains("two hexadecimal numbers"), "{error}");
        }
    }
}
