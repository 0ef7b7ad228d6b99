//! Settings that are chosen by name.

/// Declares an enum whose variants have names, in files and on the command line.
macro_rules! names {
    (
        $(#[doc = $doc:literal])*
        $name:ident, $what:literal;
        $( $(#[doc = $help:literal])* $variant:ident = $text:literal ),* $(,)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[doc = $help])* $variant ),*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $( Self::$variant => $text ),* })
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $( $text => Ok(Self::$variant), )*
                    found => Err(pad::ops::text::unknown_name($what, found, [$( $text ),*])),
                }
            }
        }

        impl $crate::settings::values::Setting for $name {
            type Flag = Self;
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use names;

names! {
    /// Where the adapters of a model come from.
    Adapters, "adapters";
    /// The weights, or new ones where a model needs some.
    Auto = "auto",
    /// None, even if the weights have some.
    None = "none",
    /// New ones, even if the weights have some.
    New = "new",
}

names! {
    /// The course of the learning rate.
    ScheduleKind, "schedule";
    /// MAE's: linear warm-up, half a cosine.
    Cosine = "cosine",
    /// mmsegmentation's: linear warm-up, a straight line.
    Poly = "poly",
    /// detectron2's: linear warm-up, twice a tenth.
    Steps = "steps",
}
