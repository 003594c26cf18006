//! Places in the log and in topics, as arguments.

use std::str::FromStr;

use composable_rust::Position;
use composable_rust::bus::TopicOffset;
use composable_rust::operations::{ConsumerStart, LogStart};
use composable_rust_admin::{Admin, AdminError};

use crate::text::Moment;

/// A place at which something continues: `beginning`, `end`, a time or an age, or positions such as
/// `3:1200,4:800`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Beginning,
    End,
    Since(Moment),
    /// Partitions with offsets.
    At(Vec<(u16, u64)>),
}

impl Place {
    /// Returns the place in the log; positions are those of the last events before it.
    pub(crate) async fn in_log(&self, admin: &Admin) -> Result<LogStart, AdminError> {
        Ok(match self {
            Self::Beginning => LogStart::Beginning,
            Self::End => LogStart::End,
            Self::Since(moment) => LogStart::Since(moment.resolve(admin).await?),
            Self::At(of) => {
                LogStart::After(of.iter().map(|(p, o)| Position::new(*p, *o)).collect())
            }
        })
    }

    /// Returns the place in a topic; positions are those of the next messages.
    pub(crate) async fn in_topic(&self, admin: &Admin) -> Result<ConsumerStart, AdminError> {
        let at = |(partition, offset): &(u16, u64)| TopicOffset {
            partition: i32::from(*partition),
            offset: i64::try_from(*offset).unwrap_or(i64::MAX),
        };
        Ok(match self {
            Self::Beginning => ConsumerStart::Beginning,
            Self::End => ConsumerStart::End,
            Self::Since(moment) => ConsumerStart::Since(moment.resolve(admin).await?),
            Self::At(of) => ConsumerStart::At(of.iter().map(at).collect()),
        })
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => return Ok(Self::Beginning),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Ok(moment) = text.parse() {
            return Ok(Self::Since(moment));
        }
        let position = |part: &str| {
            let (partition, offset) = part.split_once(':')?;
            Some((partition.trim().parse().ok()?, offset.parse().ok()?))
        };
        let positions: Option<Vec<_>> = text.split(',').map(position).collect();
        positions.map(Self::At).ok_or_else(|| {
            "write beginning, end, a time such as 2026-03-01T12:00:00Z, an age such as 15m, or \
             positions as PARTITION:OFFSET,…"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_a_moment_or_positions() {
        assert_eq!("beginning".parse(), Ok(Place::Beginning));
        assert_eq!("end".parse(), Ok(Place::End));
        assert_eq!("15m".parse(), Ok(Place::Since("15m".parse().unwrap())));
        let at = "2026-03-01T12:00:00Z";
        assert_eq!(at.parse(), Ok(Place::Since(at.parse().unwrap())));
        assert_eq!("3:1200,4:0".parse(), Ok(Place::At(vec![(3, 1_200), (4, 0)])));
        for text in ["", "3", "3:", "-1:4", "3:4,", "start"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
