//! The machine: whether there is room for the state to grow.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::Finding;

/// The free bytes below which the server cannot work long.
const FREE_FAILURE: u64 = 100 << 20;
/// The free bytes below which somebody should look.
const FREE_WARNING: u64 = 1 << 30;

/// Looks at the machine a data directory is on.
pub fn look(dir: &Path) -> Vec<Finding> {
    vec![match statvfs(dir) {
        Ok(found) => space(found.blocks_available().saturating_mul(found.fragment_size())),
        Err(error) => {
            Finding::failure("disk", format!("{}: {error}", dir.display()), "look at the disk")
        }
    }]
}

fn space(free: u64) -> Finding {
    let found = format!("{} MiB free for the data directory", free >> 20);
    let advice = "free some space: a server whose disk is full takes no writes";
    match free {
        ..FREE_FAILURE => Finding::failure("disk", found, advice),
        FREE_FAILURE..FREE_WARNING => Finding::warning("disk", found, advice),
        _ => Finding::ok("disk", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Result;
    use super::*;

    #[test]
    fn a_disk_is_warned_of_before_it_is_full() {
        let result = |free| space(free).result;
        assert_eq!(result(0), Result::Failure);
        assert_eq!(result(FREE_FAILURE), Result::Warning);
        assert_eq!(result(FREE_WARNING), Result::Ok);
    }
}
