//! `KeyRing`: the keys that seal and open, and the file they lie in: one line each, the last one seals.
//!
//! Invariant: a key is on disk before it seals anything.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orchestrator_core::model::Sensitive;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The most keys in a file.
pub const KEYS_MAX: usize = 16;
/// The bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// The most bytes of a file with keys.
const FILE_BYTES_MAX: u64 = 64 << 10;
const ABOUT: &str = "\
# The keys that seal secrets at rest. Who reads this file can read the secrets of the store and of its backups; who loses it has
# lost them. The last key seals, the others open what was sealed before.
";

/// Names a key: eight hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text).ok_or_else(|| KeyError::Id { text: text.to_owned() })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a file of keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It does not hold what it should.
    #[error("{}, line {line}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no key in it.
    #[error("{} holds no key; put the file of a backup there", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It is no name of a key.
    #[error("{text:?} is no name of a key: eight hexadecimal digits are needed")]
    Id {
        /// What it is instead.
        text: String,
    },
    /// There are as many keys as there may be.
    #[error(
        "{} holds {KEYS_MAX} keys, the most there may be; take lines out at its top whose keys no backup needs any more", path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{} may be read by others (mode {mode:o}); `chmod 600` it, and make a new key if others may have read it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no such key.
    #[error("{} holds no key {id}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The key's name.
        id: KeyId,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// The keys of a file. Its `Debug` form shows none.
pub struct KeyRing {
    path: PathBuf,
    keys: RwLock<Keys>,
}

#[derive(Clone, PartialEq, Eq)]
struct Keys {
    /// In the order of the file.
    order: Vec<KeyId>,
    by_id: BTreeMap<KeyId, [u8; KEY_BYTES]>,
    current: KeyId,
}

impl KeyRing {
    /// Reads the keys of a file. If there is none it is made, with one key, mode 0600.
    ///
    /// # Errors
    /// [`KeyError`]; the file is then as it was.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let path = path.into();
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = random_id()?;
                let by_id = BTreeMap::from([(id.clone(), random()?)]);
                let keys = Keys { order: vec![id.clone()], by_id, current: id };
                write(&path, &keys)?;
                Ok(Self { path, keys: RwLock::new(keys) })
            }
            Ok(_) | Err(_) => Self::read(path),
        }
    }

    /// Reads the keys of a file that is there.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let path = path.into();
        let keys = RwLock::new(read(&path)?);
        Ok(Self { path, keys })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that seals.
    pub fn current(&self) -> KeyId {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// Makes a new key, writes it into the file, and seals with it from now on.
    ///
    /// # Errors
    /// [`KeyError`]; everything is then as it was.
    pub fn add_key(&self) -> Result<KeyId, KeyError> {
        let id = self.prepare_key()?;
        self.seal_with(&id)?;
        Ok(id)
    }

    /// Makes a new key and writes it into the file; it opens from now on, and seals once [`Self::seal_with`] says so. Others who
    /// have the same keys can be given it meanwhile ([`Self::text`]).
    ///
    /// # Errors
    /// [`KeyError`]; everything is then as it was.
    pub fn prepare_key(&self) -> Result<KeyId, KeyError> {
        self.change(|keys| {
            let id = random_id()?;
            keys.add(id.clone(), random()?);
            Ok(id)
        })
    }

    /// Seals with a key of the file from now on.
    ///
    /// # Errors
    /// [`KeyError`]; everything is then as it was.
    pub fn seal_with(&self, id: &KeyId) -> Result<(), KeyError> {
        self.change(|keys| {
            if !keys.by_id.contains_key(id) {
                return Err(KeyError::Unknown { path: self.path.clone(), id: id.clone() });
            }
            keys.order.retain(|other| other != id);
            keys.order.push(id.clone());
            keys.current = id.clone();
            Ok(())
        })
    }

    /// The file's text, with every key.
    pub fn text(&self) -> Sensitive<String> {
        Sensitive(self.keys.read().unwrap_or_else(PoisonError::into_inner).to_text())
    }

    /// Takes in the keys of another file's text: those that are new open from now on, and the one that seals there does so here too if
    /// it is new.
    ///
    /// # Errors
    /// [`KeyError`]; everything is then as it was.
    pub fn take_in(&self, text: &str) -> Result<(), KeyError> {
        let theirs = parse(&self.path, text)?;
        self.change(|keys| {
            let seals_anew = !keys.by_id.contains_key(&theirs.current);
            for id in &theirs.order {
                if let Some(key) = theirs.by_id.get(id).filter(|_| !keys.by_id.contains_key(id)) {
                    keys.add(id.clone(), *key);
                }
            }
            if seals_anew {
                keys.order.retain(|id| *id != theirs.current);
                keys.order.push(theirs.current.clone());
                keys.current = theirs.current.clone();
            }
            Ok(())
        })
    }

    /// Changes the keys of the file, where somebody may have put some meanwhile.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Keys) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let there = read(&self.path)?;
        let mut new = there.clone();
        let changed = change(&mut new)?;
        if new.order.len() > KEYS_MAX {
            return Err(KeyError::Full { path: self.path.clone() });
        }
        if new != there {
            write(&self.path, &new)?;
        }
        *keys = new;
        Ok(changed)
    }

    /// Reads the file again: keys that were put there open things from now on, and the last one seals.
    ///
    /// # Errors
    /// [`KeyError`]; the keys are then as they were.
    pub fn reload(&self) -> Result<(), KeyError> {
        let new = read(&self.path)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(crate) fn key(&self, id: &KeyId) -> Option<[u8; KEY_BYTES]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).copied()
    }
}

impl Keys {
    /// Adds a key that opens, in front of the one that seals.
    fn add(&mut self, id: KeyId, key: [u8; KEY_BYTES]) {
        self.by_id.insert(id.clone(), key);
        self.order.insert(self.order.len() - 1, id);
    }

    fn to_text(&self) -> String {
        let mut text = ABOUT.to_owned();
        for id in &self.order {
            let key = self.by_id.get(id).map(|key| STANDARD.encode(key)).unwrap_or_default();
            text.push_str(&format!("{id} {key}\n"));
        }
        text
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Keys, KeyError> {
    let failed = |source| KeyError::File { action: "read", path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        let reason = "the file is too large to be one of keys";
        return Err(KeyError::Content { path: path.to_owned(), line: 1, reason });
    }
    parse(path, &fs::read_to_string(path).map_err(failed)?)
}

/// Reads keys out of a text that is, or is to be, in a file.
fn parse(path: &Path, text: &str) -> Result<Keys, KeyError> {
    let (mut order, mut by_id) = (Vec::new(), BTreeMap::new());
    for (line, text) in (1..).zip(text.lines()) {
        let wrong = |reason| KeyError::Content { path: path.to_owned(), line, reason };
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if order.len() == KEYS_MAX {
            return Err(wrong("more keys than there may be"));
        }
        let form = "a key is needed: eight hexadecimal digits, a space, and 32 bytes in base64";
        let (id, key) = text.split_once(' ').ok_or_else(|| wrong(form))?;
        let id = KeyId::parse(id).ok_or_else(|| wrong(form))?;
        let key = STANDARD.decode(key.trim()).ok().and_then(|key| key.try_into().ok());
        let key: [u8; KEY_BYTES] = key.ok_or_else(|| wrong(form))?;
        if by_id.insert(id.clone(), key).is_some() {
            return Err(wrong("there is a key of this name above"));
        }
        order.push(id);
    }
    match order.last().cloned() {
        Some(current) => Ok(Keys { order, by_id, current }),
        None => Err(KeyError::Empty { path: path.to_owned() }),
    }
}

/// Writes a file whole or not at all, for its owner alone.
fn write(path: &Path, keys: &Keys) -> Result<(), KeyError> {
    let text = keys.to_text();
    let write = || {
        let directory = path.parent().unwrap_or(Path::new("."));
        // Such a file is made with mode 0600. The ending says that it is not whole yet.
        let mut file = tempfile::Builder::new().suffix(".new").tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(directory)?.sync_all()
    };
    write().map_err(|source| KeyError::File { action: "write", path: path.to_owned(), source })
}

pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES], KeyError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

fn random_id() -> Result<KeyId, KeyError> {
    let bytes: [u8; 4] = random()?;
    Ok(KeyId(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_again_and_a_new_one_seals() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let ring = KeyRing::open(&path).expect("made");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let first = ring.current();
        let second = ring.add_key().expect("room");
        assert_ne!(first, second);
        assert_eq!(ring.current(), second);
        let again = KeyRing::open(&path).expect("there");
        assert_eq!(again.current(), second);
        assert_eq!(again.key(&first), ring.key(&first));
        while ring.add_key().is_ok() {}
        let lines = fs::read_to_string(&path).expect("there");
        assert_eq!(lines.lines().filter(|line| !line.starts_with('#')).count(), KEYS_MAX);
        assert!(!format!("{ring:?}").contains(second.as_str()));
    }

    #[test]
    fn a_new_key_is_known_everywhere_before_it_seals_anywhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let one = KeyRing::open(&one).expect("made");
        std::fs::copy(one.path(), &other).expect("copied");
        let other = KeyRing::open(&other).expect("there");
        let (first, second) = (one.current(), one.prepare_key().expect("room"));
        other.take_in(&one.text().0).expect("good");
        assert_eq!([one.current(), other.current()], [first.clone(), first.clone()]);
        assert_eq!(other.key(&second), one.key(&second));
        one.seal_with(&second).expect("there");
        other.seal_with(&second).expect("there");
        assert_eq!([one.current(), other.current()], [second.clone(), second.clone()]);
        assert_eq!(KeyRing::read(other.path()).expect("there").current(), second);
        // Who was away learns what seals now, and who is behind changes nothing.
        let late = dir.path().join("late");
        std::fs::write(&late, "").expect("written");
        std::fs::set_permissions(&late, fs::Permissions::from_mode(0o600)).expect("ours");
        std::fs::write(
            &late,
            format!("{first} {}", STANDARD.encode(one.key(&first).expect("there"))),
        )
        .expect("written");
        let late = KeyRing::open(&late).expect("there");
        other.take_in(&late.text().0).expect("good");
        assert_eq!(other.current(), second);
        late.take_in(&other.text().0).expect("good");
        assert_eq!((late.current(), late.key(&first)), (second, one.key(&first)));
        let none = KeyId::parse("00000000").expect("a name");
        assert!(late.seal_with(&none).expect_err("none").to_string().contains("no key 00000000"));
        assert!(late.take_in("nonsense").is_err());
    }

    #[test]
    fn a_file_that_others_may_read_or_that_holds_no_keys_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        KeyRing::open(&path).expect("made");
        let mut permissions = fs::metadata(&path).expect("there").permissions();
        permissions.set_mode(0o640);
        fs::set_permissions(&path, permissions.clone()).expect("ours");
        let error = KeyRing::open(&path).expect_err("open").to_string();
        assert!(error.contains("mode 640"), "{error}");
        permissions.set_mode(0o600);
        fs::set_permissions(&path, permissions).expect("ours");
        for (content, wanted) in [
            ("", "no key"),
            ("# nothing\n", "no key"),
            ("\n\nsecret canary\n", "line 3"),
            ("0123abcd QQ==", "line 1"),
        ] {
            fs::write(&path, content).expect("ours");
            let error = KeyRing::open(&path).expect_err(content).to_string();
            assert!(error.contains(wanted) && !error.contains("canary"), "{error}");
        }
    }
}
