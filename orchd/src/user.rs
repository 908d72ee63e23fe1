//! `orchd user`: lets somebody else use a cluster, by a kubeconfig with a certificate of its authority.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use orchestrator_http::{Pki, read_kubeconfig};

use crate::arguments::number;
use crate::clock::seconds_now;
use crate::data_dir::default_data_dir;
use crate::out;

pub const EXAMPLES: &str = "\
Examples:
  orchd user jane -o jane.kubeconfig
  kubectl create rolebinding jane --clusterrole=edit --user=jane -n default
  kubectl --kubeconfig jane.kubeconfig get pods

A certificate cannot be taken back before it ends; take its user's role bindings away instead.";

/// Options of `orchd user`.
#[derive(Debug, clap::Args)]
pub struct UserArgs {
    /// The name by which roles are bound to them
    name: String,
    /// A group they are of, to bind roles to; system:masters may do everything
    #[arg(long)]
    group: Option<String>,
    /// How many days the certificate is good
    #[arg(long, default_value_t = 365, value_parser = |text: &str| number(text, 1..=3650_i64), allow_negative_numbers = true)]
    days: i64,
    /// The file to write, of mode 0600 [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The data directory of the cluster [default: the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Writes the kubeconfig of a user. Needs the keys in the data directory, not a running server.
pub fn user(args: &UserArgs) -> anyhow::Result<()> {
    if args.name.trim().is_empty() {
        return Err(out::usage("the name of a user must not be empty"));
    }
    let data_dir = args.data_dir.clone().unwrap_or_else(default_data_dir);
    let pki = data_dir.join("pki");
    // Opening would make what is missing, and nobody would trust that.
    if !pki.join(Pki::ISSUING_KEY).exists() {
        bail!(
            "{} holds no keys of a cluster; name the data directory of its server with --data-dir",
            data_dir.display()
        );
    }
    let server = read_kubeconfig(&data_dir.join("kubeconfig"))?;
    let now = seconds_now();
    let pki = Pki::open(&pki, now)?;
    let certificate = pki.client_certificate(&args.name, args.group.as_deref(), args.days, now)?;
    let text = certificate.kubeconfig(&server, &args.name);
    match &args.output {
        None => out::text(text),
        Some(path) => write(path, &text),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    orchestrator_http::write_private(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
