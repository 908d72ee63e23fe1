//! `Report`: what was measured, as one table; and the measuring of pairs.

use crate::options::Options;
use crate::say;

/// Collects what benchmarks measure.
#[derive(Debug)]
pub struct Report {
    pub options: Options,
    rows: Vec<Row>,
    left_out: Vec<String>,
    missing: Vec<String>,
}

/// How a figure is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Less is better.
    Mebibytes,
    /// Less is better.
    Milliseconds,
    /// More is better.
    PerSecond,
    /// Less is better.
    Percent,
    /// Less is better.
    Seconds,
}

/// What a figure is held against: a ratio above 1 is better than the other side.
#[derive(Clone, Copy, Debug)]
pub struct Floor(pub Option<f64>);

#[derive(Debug)]
struct Row {
    name: String,
    ours: String,
    theirs: String,
    ratios: Vec<f64>,
    floor: Option<f64>,
}

impl Unit {
    fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::PerSecond => ours / theirs,
            Self::Mebibytes | Self::Milliseconds | Self::Percent | Self::Seconds => theirs / ours,
        }
    }

    fn show(self, figure: f64) -> String {
        match self {
            Self::Mebibytes => format!("{figure:.1} MiB"),
            Self::Milliseconds => format!("{figure:.1} ms"),
            Self::PerSecond => format!("{figure:.0}/s"),
            Self::Percent => format!("{figure:.1} %"),
            Self::Seconds => format!("{figure:.1} s"),
        }
    }
}

impl Report {
    pub const fn new(options: Options) -> Self {
        Self { options, rows: Vec::new(), left_out: Vec::new(), missing: Vec::new() }
    }

    /// Whether a benchmark of this name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.options.filter)
    }

    /// Takes in pairs of ours and theirs that were measured in turns.
    pub fn pairs(&mut self, name: &str, unit: Unit, floor: Floor, pairs: &[(f64, f64)]) {
        let ours: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let theirs: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        let ratios = pairs.iter().map(|(ours, theirs)| unit.ratio(*ours, *theirs)).collect();
        self.add(Row {
            name: name.to_owned(),
            ours: unit.show(median(&ours)),
            theirs: unit.show(median(&theirs)),
            ratios,
            floor: floor.0,
        });
    }

    /// Takes in figures that are held against a fixed limit.
    pub fn against(&mut self, name: &str, unit: Unit, limit: f64, figures: &[f64]) {
        let pairs: Vec<_> = figures.iter().map(|figure| (*figure, limit)).collect();
        self.pairs(name, unit, Floor(Some(1.0)), &pairs);
    }

    /// Notes what was asked for and cannot be measured here, and why: the run fails.
    pub fn missing(&mut self, what: &str, why: &str) {
        let line = format!("NOT MEASURED: {what}: {why}");
        say(&line);
        self.missing.push(line);
    }

    /// Whether something that was asked for could not be measured.
    pub fn is_incomplete(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Notes what was not asked for and so not measured.
    pub fn leave_out(&mut self, what: &str, why: &str) {
        self.left_out.push(format!("left out: {what}: {why}"));
    }

    /// Whether some figure is below its floor.
    pub fn is_below(&self) -> bool {
        self.rows.iter().any(|row| row.is_ok() == Some(false))
    }

    /// Prints the table.
    pub fn print(&self) {
        let wide = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let line = |cells: [&str; 6]| {
            let [name, ours, theirs, ratio, floor, verdict] = cells;
            say(&format!(
                "{name:<wide$}  {ours:>12}  {theirs:>12}  {ratio:>20}  {floor:>5}  {verdict}"
            ));
        };
        say("");
        line(["", "ours", "peer or limit", "ratio (min-max)", "floor", ""]);
        for row in &self.rows {
            let floor = row.floor.map_or_else(|| "-".to_owned(), |floor| format!("{floor:.1}"));
            let verdict = match row.is_ok() {
                None => "",
                Some(true) => "ok",
                Some(false) => "below",
            };
            line([&row.name, &row.ours, &row.theirs, &row.ratio(), &floor, verdict]);
        }
        for line in self.left_out.iter().chain(&self.missing) {
            say(line);
        }
    }

    fn add(&mut self, row: Row) {
        say(&format!("{}: {}, {}: {}", row.name, row.ours, row.theirs, row.ratio()));
        self.rows.push(row);
    }
}

impl Row {
    fn is_ok(&self) -> Option<bool> {
        self.floor.map(|floor| median(&self.ratios) >= floor)
    }

    fn ratio(&self) -> String {
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.ratios.iter().copied().fold(0.0, f64::max);
        format!("{:.2} ({least:.2}-{most:.2})", median(&self.ratios))
    }
}

/// The middle one, or half way between the two in the middle; 0 of nothing.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    f64::midpoint(sorted[last / 2], sorted[sorted.len() / 2])
}
