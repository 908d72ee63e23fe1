//! The files that containers expect of a network, `/etc/hosts` and `/etc/resolv.conf`: the engine writes none for a sandbox whose
//! network is not its own.

use std::fs::Permissions;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bollard::models::{Mount, MountType};

/// How the machine finds names, and how where that file only names a server of the machine's own.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
const HOSTS: &str = "hosts";
const RESOLVER: &str = "resolv.conf";

/// How pods find names: what the first of the machine's files says whose servers are not all on the machine's loopback, where pods
/// do not reach them; `None` when there is no such file.
pub(crate) fn resolver() -> Option<String> {
    let texts = RESOLV_CONF.iter().map(|path| std::fs::read_to_string(path).ok());
    // A machine without the file knows no servers, and neither do its pods.
    usable(texts.enumerate().filter_map(|(at, text)| text.or_else(|| (at == 0).then(String::new))))
}

fn usable(texts: impl IntoIterator<Item = String>) -> Option<String> {
    texts.into_iter().find_map(|text| {
        let servers: Vec<_> = text.lines().filter_map(server).collect();
        let is_usable = servers.is_empty() || servers.iter().any(|server| !server.is_loopback());
        let is_told = |line: &&str| server(line).is_none_or(|server| !server.is_loopback());
        let told = text.lines().filter(is_told);
        is_usable.then(|| told.flat_map(|line| [line, "\n"]).collect())
    })
}

/// The server that a line names.
fn server(line: &str) -> Option<IpAddr> {
    line.strip_prefix("nameserver")?.trim().parse().ok()
}

/// Writes the files of a pod to a directory of its own.
pub(crate) fn write(dir: &Path, host_name: &str, address: Ipv4Addr) -> io::Result<()> {
    let none = || io::Error::other("the machine's own resolver is not reached from pods");
    let resolver = resolver().ok_or_else(none)?;
    std::fs::create_dir_all(dir)?;
    for (file, text) in [(HOSTS, hosts(host_name, address)), (RESOLVER, resolver)] {
        std::fs::write(dir.join(file), text)?;
        // Whoever a container runs as reads them, whatever mask we run with.
        std::fs::set_permissions(dir.join(file), Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Writes them unless they are there: what containers have changed in them stays.
pub(crate) fn write_missing(dir: &Path, host_name: &str, address: Ipv4Addr) -> io::Result<()> {
    match [HOSTS, RESOLVER].iter().all(|file| dir.join(file).exists()) {
        true => Ok(()),
        false => write(dir, host_name, address),
    }
}

/// Removes them.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// How the engine is told to show them to containers.
pub(crate) fn mounts(dir: &Path) -> Vec<Mount> {
    let mount = |file: &str| Mount {
        source: Some(dir.join(file).display().to_string()),
        target: Some(format!("/etc/{file}")),
        typ: Some(MountType::BIND),
        ..Default::default()
    };
    [HOSTS, RESOLVER].map(mount).into()
}

fn hosts(host_name: &str, address: Ipv4Addr) -> String {
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         {address}\t{host_name}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_find_names_as_the_machine_does_but_for_servers_on_its_loopback() {
        let cases: [(&[&str], Option<&str>); 5] = [
            (&["search a\nnameserver 192.0.2.53\n"], Some("search a\nnameserver 192.0.2.53\n")),
            (&["nameserver 127.0.0.1\nnameserver 192.0.2.53\n"], Some("nameserver 192.0.2.53\n")),
            (
                &["nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.53\n"],
                Some("nameserver 192.0.2.53\n"),
            ),
            (&["nameserver ::1\n"], None),
            (&["# nobody\n"], Some("# nobody\n")),
        ];
        for (texts, wanted) in cases {
            let texts = texts.iter().map(|text| (*text).to_owned());
            assert_eq!(usable(texts).as_deref(), wanted);
        }
    }

    #[test]
    fn the_files_are_written_told_and_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("pod");
        std::fs::create_dir(&own).expect("made");
        std::fs::write(own.join(HOSTS), hosts("web-1", Ipv4Addr::new(10, 64, 0, 7)))
            .expect("written");
        let text = std::fs::read_to_string(own.join(HOSTS)).expect("there");
        assert!(text.ends_with("10.64.0.7\tweb-1\n"), "{text}");
        std::fs::write(own.join(RESOLVER), "changed").expect("written");
        write_missing(&own, "web-1", Ipv4Addr::new(10, 64, 0, 7)).expect("nothing is missing");
        assert_eq!(std::fs::read_to_string(own.join(RESOLVER)).expect("there"), "changed");
        let shown = &mounts(&own)[0];
        assert_eq!(shown.source.as_deref(), own.join(HOSTS).to_str());
        assert_eq!(shown.target.as_deref(), Some("/etc/hosts"));
        remove(&own).expect("removed");
        remove(&own).expect("nothing to remove");
        assert!(!own.exists());
    }
}
