//! Public types of commands, whose variants and arguments are private.

/// Has a tuple struct parse as the private enum in it does.
/// The enum is boxed, since programs mount it among small variants of their own.
macro_rules! mounted {
    ($name:ident($command:ty)) => {
        impl clap::FromArgMatches for $name {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                <$command>::from_arg_matches(matches).map(|command| Self(Box::new(command)))
            }

            fn update_from_arg_matches(
                &mut self,
                matches: &clap::ArgMatches,
            ) -> Result<(), clap::Error> {
                self.0.update_from_arg_matches(matches)
            }
        }

        impl clap::Subcommand for $name {
            fn augment_subcommands(program: clap::Command) -> clap::Command {
                <$command>::augment_subcommands(program)
            }

            fn augment_subcommands_for_update(program: clap::Command) -> clap::Command {
                <$command>::augment_subcommands_for_update(program)
            }

            fn has_subcommand(name: &str) -> bool {
                <$command>::has_subcommand(name)
            }
        }
    };
}

pub(crate) use mounted;
