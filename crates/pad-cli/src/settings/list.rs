//! One list for the settings of a program, their defaults, their flags and their keys in TOML files.

use crate::run::Result;

/// A setting as files and the command line know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in files; the flag has dashes in place of underscores.
    pub name: &'static str,
    /// Whether the flag alone, without a value, means `true`.
    pub switch: bool,
}

/// A value of a file that does not fit its setting.
#[derive(Debug)]
pub struct Fault {
    /// The setting.
    pub name: &'static str,
    /// What is wrong.
    pub what: String,
}

/// Settings made by [`settings!`].
pub trait Part: Default + Clone + serde::Serialize + Send + Sync + 'static {
    /// Their flags.
    type Flags: clap::Args + Clone + std::fmt::Debug + Default + Send + Sync;

    /// All of them, in order.
    const KEYS: &'static [Key];

    /// Takes the entries out of `table` that belong to these settings.
    ///
    /// # Errors
    /// The first value that does not fit.
    fn read(&mut self, table: &mut toml::Table) -> Result<(), Fault>;

    /// The flags that were given, as the entries of a file.
    fn given(flags: &Self::Flags) -> Result<toml::Table>;
}

/// Makes a struct of settings with its defaults, a struct of flags, and [`Part`] of one list: a new
/// setting is one entry. The doc comment is the flag's help; defaults are added to it.
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        $name:ident, $flags:ident;
        $( $heading:literal {
            $( $(#[doc = $help:literal])+
               $field:ident: $ty:ty = $default:expr $(, $meta:ident = $value:expr)* ; )*
        } )*
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $name {
            $($( $(#[doc = $help])+ pub $field: $ty, )*)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($( $field: $default, )*)* }
            }
        }

        #[derive(clap::Args, Clone, Debug, Default)]
        pub struct $flags {
            $($(
                $(#[doc = $help])+
                #[arg(long, help_heading = $heading $(, $meta = $value)*)]
                pub $field: Option<<$ty as $crate::settings::values::Setting>::Flag>,
            )*)*
        }

        impl $crate::settings::list::Part for $name {
            type Flags = $flags;

            const KEYS: &'static [$crate::settings::list::Key] = &[ $($(
                $crate::settings::list::Key {
                    name: stringify!($field),
                    switch: <$ty as $crate::settings::values::Setting>::SWITCH,
                },
            )*)* ];

            fn read(
                &mut self,
                table: &mut toml::Table,
            ) -> $crate::run::Result<(), $crate::settings::list::Fault> {
                $($(
                    if let Some(value) = table.remove(stringify!($field)) {
                        self.$field = value.try_into().map_err(|error: toml::de::Error| {
                            let what = error.message().trim().to_string();
                            $crate::settings::list::Fault { name: stringify!($field), what }
                        })?;
                    }
                )*)*
                Ok(())
            }

            fn given(flags: &$flags) -> $crate::run::Result<toml::Table> {
                let mut table = toml::Table::new();
                $($(
                    if let Some(value) = &flags.$field {
                        table.insert(stringify!($field).into(), toml::Value::try_from(value)?);
                    }
                )*)*
                Ok(table)
            }
        }
    };
}
pub(crate) use settings;
