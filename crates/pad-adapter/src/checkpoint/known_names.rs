//! Functions and classes that checkpoints name and that are known to be harmless here: none of them
//! is ever run.

/// Whether state dictionaries, or what training programs put beside them, are made of
/// `module.name`. A pickle that names anything else is refused.
pub(super) fn is_known(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter" | "deque"),
        "argparse" => name == "Namespace",
        "torch" => of_torch(name),
        "torch.storage" => matches!(name, "UntypedStorage" | "TypedStorage" | "_LegacyStorage"),
        "torch._utils" => {
            matches!(
                name,
                "_rebuild_tensor"
                    | "_rebuild_tensor_v2"
                    | "_rebuild_tensor_v3"
                    | "_rebuild_parameter"
                    | "_rebuild_parameter_with_state"
                    | "_rebuild_qtensor"
                    | "_rebuild_sparse_tensor"
                    | "_rebuild_meta_tensor_no_storage"
            )
        }
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.serialization" => name == "_get_layout",
        "torch.nn.parameter" => matches!(name, "Parameter" | "Buffer"),
        "torch.torch_version" => name == "TorchVersion",
        "numpy" => {
            matches!(
                name,
                "dtype"
                    | "ndarray"
                    | "float16"
                    | "float32"
                    | "float64"
                    | "int8"
                    | "int16"
                    | "int32"
                    | "int64"
                    | "uint8"
                    | "uint16"
                    | "uint32"
                    | "uint64"
                    | "bool_"
                    | "str_"
            )
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" => {
            matches!(name, "scalar" | "_reconstruct")
        }
        "numpy.core.numeric" | "numpy._core.numeric" => name == "_frombuffer",
        "numpy.dtypes" => name.ends_with("DType") && name.len() < 64,
        "builtins" | "__builtin__" => of_python(name),
        "_codecs" => name == "encode",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "datetime" => matches!(name, "datetime" | "date" | "time" | "timedelta" | "timezone"),
        "decimal" => name == "Decimal",
        "pathlib" | "pathlib._local" => name.ends_with("Path") && name.len() < 64,
        "mmengine.logging.history_buffer" => name == "HistoryBuffer",
        "mmengine.config.config" | "mmcv.utils.config" => name == "ConfigDict",
        "omegaconf.dictconfig" => name == "DictConfig",
        "omegaconf.listconfig" => name == "ListConfig",
        "omegaconf.nodes" => name.ends_with("Node") && name.len() < 64,
        "omegaconf.base" => matches!(name, "ContainerMetadata" | "Metadata"),
        "typing" => name == "Any",
        "yacs.config" | "detectron2.config.config" => name == "CfgNode",
        _ => false,
    }
}

/// Python's own types; protocol 2 gives some the names that Python 2 had.
fn of_python(name: &str) -> bool {
    matches!(
        name,
        "set"
            | "frozenset"
            | "slice"
            | "complex"
            | "bytearray"
            | "bytes"
            | "range"
            | "xrange"
            | "int"
            | "long"
            | "float"
            | "str"
            | "unicode"
            | "bool"
            | "list"
            | "dict"
            | "tuple"
            | "object"
            | "Ellipsis"
            | "NotImplemented"
            | "NoneType"
    )
}

/// Storages, element types and layouts of PyTorch.
fn of_torch(name: &str) -> bool {
    let of_type = |start: &str| {
        let rest = name.strip_prefix(start);
        rest.is_some_and(|rest| rest.len() < 16 && rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    (name.ends_with("Storage") && name.len() < 64)
        || ["float", "bfloat", "complex", "int", "uint", "qint", "quint", "bits", "float8_"]
            .into_iter()
            .any(of_type)
        || name.starts_with("float8_") && name.len() < 32
        || matches!(
            name,
            "Size"
                | "device"
                | "dtype"
                | "Tensor"
                | "FloatTensor"
                | "bool"
                | "strided"
                | "sparse_coo"
                | "sparse_csr"
                | "per_tensor_affine"
                | "per_channel_affine"
                | "contiguous_format"
                | "channels_last"
                | "preserve_format"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known() {
        for (module, name) in [
            ("__builtin__", "xrange"),
            ("builtins", "range"),
            ("torch", "FloatStorage"),
            ("torch", "float8_e4m3fn"),
            ("torch", "bfloat16"),
            ("torch", "quint4x2"),
            ("numpy.dtypes", "Float32DType"),
        ] {
            assert!(is_known(module, name), "{module}.{name}");
        }
        for (module, name) in [
            ("__builtin__", "eval"),
            ("builtins", "getattr"),
            ("builtins", "exec"),
            ("posix", "system"),
            ("torch", "load"),
            ("torch", "floater"),
            ("torch.hub", "load"),
            ("numpy", "load"),
            ("torch._utils", "_import_dotted_name"),
        ] {
            assert!(!is_known(module, name), "{module}.{name}");
        }
        assert!(!is_known("numpy.dtypes", &format!("{}DType", "x".repeat(1 << 20))));
    }
}
