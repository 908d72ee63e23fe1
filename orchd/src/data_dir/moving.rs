//! `Moving`: a move of the state that the data directory remembers, from when the old place is left until the new one is known.
//!
//! Invariant: as long as it is remembered no server starts in the directory, and the same move can be done again to its end.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{DataDir, sync_parent};
use crate::store::StoreUrl;

/// The file that says from where and to where.
pub(super) const MOVING: &str = "moving";
/// What stands there for the database of the directory itself, which may be put elsewhere meanwhile.
const OWN: &str = "own";
/// What a database is called once the state lies elsewhere: so, behind its name.
const MOVED: &str = ".moved";

/// A move of the state that is to be done to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    pub from: StoreUrl,
    pub to: StoreUrl,
}

impl DataDir {
    /// The move of the state that is to be done to its end, if there is one.
    pub fn moving(&self) -> anyhow::Result<Option<Moving>> {
        let path = self.path.join(MOVING);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let place = |line: &str| match line {
            OWN => Ok(self.own_store()),
            url => StoreUrl::parse(url),
        };
        let urls = text.lines().map(place).collect::<Result<Vec<_>, _>>();
        match urls.as_deref() {
            Ok([from, to]) => Ok(Some(Moving { from: from.clone(), to: to.clone() })),
            _ => bail!("{}: two lines are needed, the old place and the new one", path.display()),
        }
    }

    /// Remembers that the state is being moved: no server starts here until that is done.
    pub fn begin_moving(&self, Moving { from, to }: &Moving) -> anyhow::Result<()> {
        let line = |url: &StoreUrl| match url.is_like(&self.own_store()) {
            true => OWN.to_owned(),
            false => url.to_string(),
        };
        self.write(MOVING, &format!("{}\n{}", line(from), line(to)))
    }

    /// Forgets a move of which nothing was done.
    pub fn give_up_moving(&self) -> anyhow::Result<()> {
        self.remove(MOVING)
    }

    /// Ends a move: puts aside a database of the old place, which nobody has open.
    pub fn end_moving(&self, moved: &Moving) -> anyhow::Result<()> {
        if let StoreUrl::Sqlite(old) = &moved.from
            && old.exists()
        {
            refuse_aside(&moved.from)?;
            let renamed = std::fs::rename(old, aside(old)).and_then(|()| sync_parent(old));
            renamed.with_context(|| format!("cannot rename {}", old.display()))?;
        }
        self.remove(MOVING)
    }
}

/// Refuses a place whose database was put aside, so that none is made there.
pub fn refuse_put_aside(from: &StoreUrl) -> anyhow::Result<()> {
    match from {
        StoreUrl::Sqlite(path) if !path.exists() && aside(path).exists() => bail!(
            "there is no {}, and {} was put aside by a move; give it its name back, then do it again",
            path.display(),
            aside(path).display()
        ),
        StoreUrl::Sqlite(path) if !path.exists() => bail!("there is no state in {from}"),
        StoreUrl::Sqlite(_) | StoreUrl::Etcd(_) => Ok(()),
    }
}

/// Refuses to move a state whose database would be put where that of an earlier move lies.
pub fn refuse_aside(from: &StoreUrl) -> anyhow::Result<()> {
    match from {
        StoreUrl::Sqlite(path) if aside(path).exists() => {
            bail!("{} is left of an earlier move; move it away first", aside(path).display())
        }
        StoreUrl::Sqlite(_) | StoreUrl::Etcd(_) => Ok(()),
    }
}

/// Where a database is put once the state lies elsewhere.
fn aside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(MOVED);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_put_elsewhere_takes_its_move_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let [old, new] = ["a", "b"].map(|name| dir.path().join(name));
        let data = DataDir::open(&old).expect("made");
        let etcd = StoreUrl::Etcd("etcd://a,b".to_owned());
        data.begin_moving(&Moving { from: data.own_store(), to: etcd.clone() }).expect("written");
        std::fs::rename(&old, &new).expect("renamed");
        DataDir::open(&new).expect_err("it is being moved");
        let data = DataDir::open_to_move(&new).expect("ours");
        let moving = data.moving().expect("readable").expect("there");
        assert_eq!(moving, Moving { from: StoreUrl::Sqlite(new.join("cluster.db")), to: etcd });
        refuse_put_aside(&moving.from).expect_err("there is no state");
        std::fs::write(new.join("cluster.db.moved"), "of before").expect("written");
        let error = refuse_put_aside(&moving.from).expect_err("put aside").to_string();
        assert!(error.contains("give it its name back"), "{error}");
        std::fs::write(new.join("cluster.db"), "").expect("written");
        data.end_moving(&moving).expect_err("nothing is overwritten");
        assert!(new.join("moving").exists());
    }

    #[test]
    fn what_was_put_aside_is_not_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let aside = dir.path().join("cluster.db.moved");
        std::fs::write(dir.path().join("cluster.db"), "").expect("written");
        let data = DataDir::open(dir.path()).expect("ours");
        refuse_aside(&data.own_store()).expect("nothing is there");
        std::fs::write(&aside, "of before").expect("written");
        let error = refuse_aside(&data.own_store()).expect_err("it is there").to_string();
        assert!(error.contains("cluster.db.moved") && error.contains("move it away"), "{error}");
        let etcd = StoreUrl::Etcd("etcd://a,b".to_owned());
        refuse_aside(&etcd).expect("nothing is put aside");
    }
}
