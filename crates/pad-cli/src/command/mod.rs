//! The subcommands, a file each.

pub mod convert;
pub mod detect;
pub mod embed;
pub mod masks;
pub mod msip;
pub mod pretrain;
pub mod probe;
pub mod reconstruct;
pub mod roi;
pub mod segment;
pub mod shards;
pub mod stats;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Names of flags that occur twice, references to flags that do not exist, and the like.
    #[test]
    fn flags_are_consistent() {
        crate::Program::command().debug_assert();
    }
}
