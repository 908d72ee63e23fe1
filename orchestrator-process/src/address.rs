//! Addresses of pods: one each in 127.64.0.0/10, unique among all state directories of this user on this machine.
//!
//! A claim is a file, named after the address, that holds the path of the sandbox it belongs to. It counts while that
//! sandbox is there: what a crash or a deleted state directory leaves behind frees itself. When the last claim goes, so
//! does the directory of claims.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::if_present;
use crate::layout::{is_private_dir, make_dir, names};
use crate::record::{SANDBOX_FILE, replace};
use crate::supervisor::fnv64;

/// The first address of the range.
const FIRST: u32 = 0x7f40_0000;
/// How many addresses there are.
const COUNT: u32 = 1 << 22;
/// How many addresses are tried before a claim fails.
const PROBES_MAX: u32 = 65_536;
const LOCK: &str = "lock";

/// Exclusive access to all claims; whoever makes or removes a sandbox holds it.
#[derive(Debug)]
pub(crate) struct Claims {
    dir: PathBuf,
    _lock: File,
}

impl Claims {
    /// Waits for access to this user's claims.
    pub(crate) fn lock() -> io::Result<Self> {
        // Not $TMPDIR: programs with different ones must meet here.
        Self::lock_at(PathBuf::from(format!("/tmp/orchestrator-process-{}", geteuid())))
    }

    fn lock_at(dir: PathBuf) -> io::Result<Self> {
        loop {
            make_dir(&dir)?;
            // Whoever releases the last claim removes the directory, at any time until we hold the lock.
            let Some(private) = if_present(is_private_dir(&dir))? else { continue };
            if !private {
                let text = format!("{} is not a directory of this user alone", dir.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            let path = dir.join(LOCK);
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let Some(lock) = if_present(options.open(&path))? else { continue };
            lock.lock()?;
            // The last one out removes the file: what we hold must still be the one that others find.
            let found = if_present(fs::metadata(&path))?;
            if found.is_some_and(|it| lock.metadata().is_ok_and(|mine| mine.ino() == it.ino())) {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    /// Claims an address for the sandbox at `owner`; the same again if it has one.
    pub(crate) fn claim(&self, owner: &Path) -> io::Result<Ipv4Addr> {
        let start = u32::try_from(fnv64(owner.as_os_str().as_bytes()) % u64::from(COUNT))
            .expect("a remainder of COUNT fits");
        let candidates = (0..PROBES_MAX).map(|step| FIRST + (start + step) % COUNT);
        // Nobody expects a host at .0 or .255.
        for bits in candidates.filter(|bits| !matches!(bits & 0xff, 0 | 255)) {
            let ip = Ipv4Addr::from_bits(bits);
            if self.owner(ip)?.is_none_or(|other| other == owner || !is_sandbox(&other)) {
                self.set(ip, owner)?;
                return Ok(ip);
            }
        }
        Err(io::Error::other(format!("no free address among {PROBES_MAX} of 127.64.0.0/10")))
    }

    /// Writes down a claim that may have got lost, unless another sandbox has taken the address since.
    pub(crate) fn renew(&self, ip: Ipv4Addr, owner: &Path) -> io::Result<()> {
        match self.owner(ip)? {
            Some(other) if is_sandbox(&other) => Ok(()),
            Some(_) | None => self.set(ip, owner),
        }
    }

    /// Gives up the claim of a sandbox.
    pub(crate) fn release(&self, ip: Ipv4Addr, owner: &Path) -> io::Result<()> {
        match self.owner(ip)? {
            Some(found) if found == owner => fs::remove_file(self.dir.join(ip.to_string())),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes the claims of sandboxes that are gone, and what else a crash left here.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for name in names(&self.dir)?.into_iter().filter(|name| name != LOCK) {
            let ip = name.to_str().and_then(|name| name.parse::<Ipv4Addr>().ok());
            let owner = ip.map_or(Ok(None), |ip| self.owner(ip))?;
            if !owner.is_some_and(|owner| is_sandbox(&owner)) {
                if_present(fs::remove_file(self.dir.join(name)))?;
            }
        }
        Ok(())
    }

    fn owner(&self, ip: Ipv4Addr) -> io::Result<Option<PathBuf>> {
        let bytes = if_present(fs::read(self.dir.join(ip.to_string())))?;
        Ok(bytes.map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes))))
    }

    fn set(&self, ip: Ipv4Addr, owner: &Path) -> io::Result<()> {
        replace(&self.dir.join(ip.to_string()), owner.as_os_str().as_bytes(), 0o600)
    }
}

/// Removes the directory with the last claim.
impl Drop for Claims {
    fn drop(&mut self) {
        if names(&self.dir).is_ok_and(|names| names == [OsStr::new(LOCK)]) {
            let _ = fs::remove_file(self.dir.join(LOCK));
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

fn is_sandbox(owner: &Path) -> bool {
    owner.join(SANDBOX_FILE).exists()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[derive(Debug)]
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = format!("orchestrator-claims-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(dir);
            make_dir(&dir).expect("a scratch directory");
            Self(dir)
        }

        fn sandbox(&self, name: &str) -> PathBuf {
            let path = self.0.join(name);
            make_dir(&path).expect("a sandbox's directory");
            fs::write(path.join(SANDBOX_FILE), "{}").expect("a sandbox's file");
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn live_sandboxes_have_different_addresses_and_the_last_leaves_nothing() {
        let scratch = Scratch::new("differ");
        let dir = scratch.0.join("claims");
        let claims = Claims::lock_at(dir.clone()).expect("locked");
        let owners: Vec<_> = (0..50).map(|n| scratch.sandbox(&format!("s{n}"))).collect();
        let ips: Vec<_> = owners.iter().map(|it| claims.claim(it).expect("claimed")).collect();
        assert_eq!(ips.iter().collect::<BTreeSet<_>>().len(), 50);
        for (owner, ip) in owners.iter().zip(&ips) {
            assert!((64..128).contains(&ip.octets()[1]) && ip.octets()[0] == 127, "{ip}");
            assert_eq!(claims.claim(owner).expect("claimed again"), *ip);
            claims.release(*ip, owner).expect("released");
        }
        drop(claims);
        assert!(!dir.exists());
    }

    #[test]
    fn a_taken_address_is_passed_over_until_its_sandbox_is_gone() {
        let scratch = Scratch::new("taken");
        let claims = Claims::lock_at(scratch.0.join("claims")).expect("locked");
        let (first, other) = (scratch.sandbox("first"), scratch.sandbox("other"));
        let ip = claims.claim(&first).expect("claimed");
        claims.release(ip, &first).expect("released");
        claims.set(ip, &other).expect("set");
        let second = claims.claim(&first).expect("claimed");
        assert_ne!(second, ip, "the address is another's");
        claims.release(ip, &first).expect("another's claim stays");
        assert_eq!(claims.owner(ip).expect("read"), Some(other.clone()));
        claims.sweep().expect("swept");
        assert_eq!(claims.owner(ip).expect("read"), Some(other.clone()));
        fs::remove_dir_all(&other).expect("removed behind our back");
        assert_eq!(claims.claim(&first).expect("claimed"), ip);
        fs::remove_dir_all(&first).expect("removed behind our back");
        claims.sweep().expect("swept");
        assert_eq!(claims.owner(ip).expect("read"), None);
    }
}
