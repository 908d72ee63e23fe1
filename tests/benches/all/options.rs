//! `Options`: what the command line asks for.

/// How many pairs are measured unless asked otherwise.
const PAIRS_DEFAULT: usize = 5;
/// How many pairs may be asked for.
const PAIRS_MAX: usize = 100;

/// How many agents a herd has unless asked otherwise.
const AGENTS_DEFAULT: usize = 1_000;
/// How many agents may be asked for.
const AGENTS_MAX: usize = 5_000;

/// What to measure, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Only benchmarks whose name has this in it.
    pub filter: String,
    /// Pairs of the two sides.
    pub pairs: usize,
    /// Agents of a herd.
    pub agents: usize,
    /// Whether to build a fresh clone, which takes minutes.
    pub fresh_clone: bool,
}

impl Options {
    /// Reads the arguments; an error is what to tell the user.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            filter: String::new(),
            pairs: PAIRS_DEFAULT,
            agents: AGENTS_DEFAULT,
            fresh_clone: false,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--filter" => options.filter = value()?,
                "--fresh-clone" => options.fresh_clone = true,
                "--agents" => {
                    let text = value()?;
                    let agents =
                        text.parse().ok().filter(|agents| (1..=AGENTS_MAX).contains(agents));
                    options.agents = agents
                        .ok_or_else(|| format!("--agents {text:?}: give 1 to {AGENTS_MAX}"))?;
                }
                "--pairs" => {
                    let text = value()?;
                    let pairs = text.parse().ok().filter(|pairs| (1..=PAIRS_MAX).contains(pairs));
                    options.pairs =
                        pairs.ok_or_else(|| format!("--pairs {text:?}: give 1 to {PAIRS_MAX}"))?;
                }
                other => {
                    return Err(format!(
                        "unknown argument {other:?}; there are --filter TEXT, --pairs N, --agents N and --fresh-clone"
                    ));
                }
            }
        }
        Ok(options)
    }
}
