//! The kernel's packet filter (nf_tables), as far as [`rules`](crate::rules) needs it: a table of our own, and rules of ours in
//! chains of others, each known by the comment it carries.

mod attributes;
mod message;
#[cfg(test)]
pub(crate) mod packet;
mod rule;
mod socket;
mod steps;

use std::collections::BTreeSet;
use std::io;

use nix::errno::Errno;

use self::message::{Batch, Found, rule_of};
pub(crate) use self::rule::{Match, Rule, Verdict};
use self::socket::Socket;

/// The table and chains in which a container engine leaves room for others, best first. Without an engine and its firewall
/// none of them is there, and nothing is dropped.
const OTHERS: (&str, [&str; 2]) = ("filter", ["DOCKER-USER", "FORWARD"]);
/// The longest comment that the usual tools show.
const COMMENT_BYTES_MAX: usize = 120;

/// A table of our own.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub family: Family,
    pub name: String,
    pub chains: Vec<Chain>,
}

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// All that come out of devices.
    Device,
    /// Those of IPv4.
    Ipv4,
}

/// A chain of a table of our own.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub name: String,
    pub hook: Hook,
    pub rules: Vec<Rule>,
}

/// Which packets a chain sees, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// What arrives, before it is decided where it goes.
    Arriving,
    /// What arrives, before anything is done with it.
    ArrivingFirst,
    /// What comes out of a device, before anything else of the machine sees it.
    FromDevice(String),
    /// What leaves the machine or passes through it.
    Leaving,
    /// The first packet of what leaves, whose source may be changed.
    LeavingFirst,
    /// The first packet of what arrives, whose destination may be changed.
    Meant,
    /// The first packet of what the machine itself sends, whose destination may be changed.
    MeantByUs,
}

/// Rules for chains of others.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// With what their comments begin.
    pub mark: String,
    pub rules: Vec<Rule>,
}

fn comment(mark: &str, rule: &Rule) -> String {
    let mut comment = format!("{mark}: {rule}");
    comment.truncate(COMMENT_BYTES_MAX);
    comment
}

/// The comments of a chain's rules.
fn comments(chain: &Chain) -> impl Iterator<Item = String> {
    let mark = format!("orchestrator {}", chain.name);
    chain.rules.iter().map(move |rule| comment(&mark, rule))
}

fn make_chain(batch: &mut Batch, table: &str, chain: &Chain) {
    batch.make_chain(table, chain);
    for (rule, comment) in chain.rules.iter().zip(comments(chain)) {
        batch.append_rule((table, &chain.name), rule, &comment);
    }
}

/// Makes a table what it should be, in one transaction, unless it is. One without chains is not there.
pub(crate) fn replace(table: &Table) -> io::Result<()> {
    let mut socket = Socket::open()?;
    let found = found(&mut socket, (table.family, &table.name), None)?;
    if found.into_iter().map(|it| it.comment).eq(table.chains.iter().flat_map(comments)) {
        return Ok(());
    }
    let mut batch = Batch::new(table.family);
    // Made first, so that there is one to delete.
    batch.make_table(&table.name);
    batch.delete_table(&table.name);
    if !table.chains.is_empty() {
        make_table(&mut batch, table);
    }
    socket.commit(batch)
}

/// Finds out whether the kernel can make a table, and leaves nothing of it.
pub(crate) fn try_out(table: &Table) -> io::Result<()> {
    let mut batch = Batch::new(table.family);
    make_table(&mut batch, table);
    batch.delete_table(&table.name);
    Socket::open()?.commit(batch)
}

fn make_table(batch: &mut Batch, table: &Table) {
    batch.make_table(&table.name);
    for chain in &table.chains {
        make_chain(batch, &table.name, chain);
    }
}

/// Makes these chains of a table what they should be, each in one transaction, unless they are. Returns the names of the
/// table's other chains that have rules.
pub(crate) fn ensure_chains(table: &Table) -> io::Result<BTreeSet<String>> {
    let mut socket = Socket::open()?;
    let found = found(&mut socket, (table.family, &table.name), None)?;
    let mut others: BTreeSet<_> = found.iter().map(|rule| rule.chain.clone()).collect();
    for chain in &table.chains {
        let is_there = others.remove(&chain.name);
        let rules = found.iter().filter(|rule| rule.chain == chain.name);
        if rules.map(|rule| rule.comment.clone()).eq(comments(chain)) {
            continue;
        }
        let mut batch = Batch::new(table.family);
        batch.make_table(&table.name);
        if is_there {
            batch.delete_chain(&table.name, &chain.name);
        }
        make_chain(&mut batch, &table.name, chain);
        match socket.commit(batch) {
            // The device that it is for has just gone.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            outcome => outcome?,
        }
    }
    Ok(others)
}

/// Removes chains of a table of our own, those of them that are there.
pub(crate) fn remove_chains(
    (family, table): (Family, &str),
    chains: &BTreeSet<String>,
) -> io::Result<()> {
    let mut socket = Socket::open()?;
    for chain in chains {
        let mut batch = Batch::new(family);
        batch.delete_chain(table, chain);
        match socket.commit(batch) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Removes a table if it is there.
pub(crate) fn remove((family, table): (Family, &str)) -> io::Result<()> {
    let mut batch = Batch::new(family);
    batch.make_table(table);
    batch.delete_table(table);
    Socket::open()?.commit(batch)
}

/// Sees to it that what should pass passes the chain of others, if there is one.
pub(crate) fn admit(admission: &Admission) -> io::Result<()> {
    let mut socket = Socket::open()?;
    let (table, chains) = OTHERS;
    for chain in chains {
        let found = found(&mut socket, (Family::Ipv4, table), Some(chain))?;
        let mut batch = Batch::new(Family::Ipv4);
        for rule in &admission.rules {
            let comment = comment(&admission.mark, rule);
            if !found.iter().any(|other| other.comment == comment) {
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
        let mut batch = Batch::new(Family::Ipv4);
        for Found { handle, comment, .. } in found(&mut socket, (Family::Ipv4, table), Some(chain))?
        {
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

/// Lists a table's rules, or those of one chain of it; none when there is no such thing.
fn found(
    socket: &mut Socket,
    (family, table): (Family, &str),
    chain: Option<&str>,
) -> io::Result<Vec<Found>> {
    let answers = socket.dump(&message::list_rules(family, table, chain))?;
    Ok(answers.iter().filter_map(|answer| rule_of(answer, table, chain)).collect())
}
