"""The methods. `BUILTINS` is their table of contents: kind -> name -> "module:Class"."""

BUILTINS: dict[str, dict[str, str]] = {
    "datasets": {},
    "augmentations": {},
    "backbones": {
        "dcnn3": "baselines.backbones.dcnn3:DCNN3",
        "resnet18": "baselines.backbones.resnet18:ResNet18",
    },
    "ssl_methods": {
        "none": "baselines.ssl_methods.none:NoPretraining",
        "simclr": "baselines.ssl_methods.simclr:SimCLR",
    },
    "selectors": {},
}
