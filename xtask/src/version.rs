//! PostgreSQL versions.

use std::fmt;
use std::ops::RangeInclusive;

/// The major and minor version of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// The major versions that the project supports.
    pub(crate) const SUPPORTED: RangeInclusive<u32> = 15..=18;

    /// Parses the output of `postgres --version`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("(PostgreSQL) ")?;
        let (major, rest) = leading_number(rest)?;
        // A pre-release such as "18beta1" has minor version 0.
        let minor = rest.strip_prefix('.').and_then(leading_number).map_or(0, |(minor, _)| minor);
        Some(Self { major, minor })
    }

    /// Returns `true` if the project supports this version.
    pub(crate) fn is_supported(self) -> bool {
        Self::SUPPORTED.contains(&self.major)
    }
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_postgres_is_parsed() {
        for (line, major, minor) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15, 18),
            ("postgres (PostgreSQL) 17.5", 17, 5),
            ("postgres (PostgreSQL) 18beta1", 18, 0),
            ("postgres (PostgreSQL) 19devel", 19, 0),
        ] {
            assert_eq!(Version::parse(line), Some(Version { major, minor }), "{line}");
        }
        assert_eq!(Version::parse("psql: command not found"), None);
        assert_eq!(Version::parse("postgres (PostgreSQL) unknown"), None);
    }

    #[test]
    fn versions_15_to_18_are_supported() {
        let supported = (13..=20).filter(|&major| Version { major, minor: 0 }.is_supported());
        assert_eq!(supported.collect::<Vec<_>>(), [15, 16, 17, 18]);
    }
}
