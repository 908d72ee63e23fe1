//! The kernel's packet filter (nf_tables), as far as [`rules`](crate::rules) needs it: a table of our own, and rules of ours in
//! chains of others, each known by the comment it carries.

mod message;
mod socket;

use std::fmt;
use std::io;

use nix::errno::Errno;
use orchestrator_core::model::Cidr;

use self::message::{Batch, rules_of};
use self::socket::Socket;

/// The table and chains in which a container engine leaves room for others, best first. Without an engine and its firewall
/// none of them is there, and nothing is dropped.
const OTHERS: (&str, [&str; 2]) = ("filter", ["DOCKER-USER", "FORWARD"]);
/// The longest comment that the usual tools show.
const COMMENT_BYTES_MAX: usize = 120;

/// A table of our own.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub name: String,
    pub chains: Vec<Chain>,
}

/// A chain of a table of our own.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub name: &'static str,
    pub hook: Hook,
    pub rules: Vec<Rule>,
}

/// Which packets a chain sees, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// What arrives, before anything is done with it.
    Arriving,
    /// What leaves the machine or passes through it.
    Leaving,
    /// The first packet of what leaves, whose source may be changed.
    LeavingFirst,
}

/// Rules for chains of others.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// With what their comments begin.
    pub mark: String,
    pub rules: Vec<Rule>,
}

/// What to do with which packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// All of which must hold.
    pub matches: Vec<Match>,
    pub verdict: Verdict,
}

/// What holds of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It comes from an address of a range.
    From(Cidr),
    /// It does not come through a device whose name begins so.
    NotIn(&'static str),
    /// It does not leave through a device.
    NotOut(String),
    /// It does not leave through a device whose name begins so.
    NotOutAny(&'static str),
    /// It does not go to a range.
    NotTo(Cidr),
    /// It goes to a range.
    To(Cidr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    /// It goes on with the node's own address.
    Masquerade,
}

/// Tells it in words, different for different rules.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            match one {
                Match::From(cidr) => write!(f, "from {cidr} ")?,
                Match::NotIn(device) => write!(f, "not in {device} ")?,
                Match::NotOut(device) => write!(f, "not via {device} ")?,
                Match::NotOutAny(device) => write!(f, "not via {device}* ")?,
                Match::NotTo(cidr) => write!(f, "not to {cidr} ")?,
                Match::To(cidr) => write!(f, "to {cidr} ")?,
            }
        }
        match self.verdict {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Masquerade => f.write_str("masquerade"),
        }
    }
}

fn comment(mark: &str, rule: &Rule) -> String {
    let mut comment = format!("{mark}: {rule}");
    comment.truncate(COMMENT_BYTES_MAX);
    comment
}

/// Makes a table what it should be, in one transaction, unless it is.
pub(crate) fn replace(table: &Table) -> io::Result<()> {
    let mut socket = Socket::open()?;
    let rules = table.chains.iter().flat_map(|chain| chain.rules.iter().map(move |it| (chain, it)));
    let wanted: Vec<_> = rules
        .clone()
        .map(|(chain, rule)| comment(&format!("orchestrator {}", chain.name), rule))
        .collect();
    let found = found(&mut socket, &table.name, None)?;
    if found.iter().map(|(_, comment)| comment).eq(&wanted) {
        return Ok(());
    }
    let mut batch = Batch::new();
    // Made first, so that there is one to delete.
    batch.make_table(&table.name);
    batch.delete_table(&table.name);
    batch.make_table(&table.name);
    for chain in &table.chains {
        batch.make_chain(&table.name, chain);
    }
    for ((chain, rule), comment) in rules.zip(&wanted) {
        batch.append_rule((&table.name, chain.name), rule, comment);
    }
    socket.commit(batch)
}

/// Removes a table if it is there.
pub(crate) fn remove(table: &Table) -> io::Result<()> {
    let mut batch = Batch::new();
    batch.make_table(&table.name);
    batch.delete_table(&table.name);
    Socket::open()?.commit(batch)
}

/// Sees to it that what should pass passes the chain of others, if there is one.
pub(crate) fn admit(admission: &Admission) -> io::Result<()> {
    let mut socket = Socket::open()?;
    let (table, chains) = OTHERS;
    for chain in chains {
        let found = found(&mut socket, table, Some(chain))?;
        let mut batch = Batch::new();
        for rule in &admission.rules {
            let comment = comment(&admission.mark, rule);
            if !found.iter().any(|(_, other)| *other == comment) {
                batch.insert_rule((table, chain), rule, &comment);
            }
        }
        match socket.commit(batch) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            outcome => return outcome,
        }
    }
    Ok(())
}

/// Removes our rules from the chains of others.
pub(crate) fn dismiss(admission: &Admission) -> io::Result<()> {
    let mut socket = Socket::open()?;
    let (table, chains) = OTHERS;
    for chain in chains {
        let mut batch = Batch::new();
        for (handle, comment) in found(&mut socket, table, Some(chain))? {
            if comment.starts_with(&admission.mark) {
                batch.delete_rule((table, chain), handle);
            }
        }
        match socket.commit(batch) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Lists handles and comments of a table's rules, or of one chain of it; none when there is no such thing.
fn found(socket: &mut Socket, table: &str, chain: Option<&str>) -> io::Result<Vec<(u64, String)>> {
    let answers = socket.dump(&message::list_rules(table, chain))?;
    Ok(answers.iter().flat_map(|answer| rules_of(answer, table, chain)).collect())
}
