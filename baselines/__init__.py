"""The methods. `BUILTINS` is their table of contents: kind -> name -> "module:Class"."""

BUILTINS: dict[str, dict[str, str]] = {
    "datasets": {
        "digits": "baselines.datasets.digits:Digits",
        "image_folder": "baselines.datasets.image_folder:ImageFolder",
    },
    "augmentations": {
        "crop": "baselines.augmentations.crop:Crop",
        "center_crop": "baselines.augmentations.center_crop:CenterCrop",
        "pad_crop": "baselines.augmentations.pad_crop:PadCrop",
        "flip": "baselines.augmentations.flip:Flip",
        "rotate": "baselines.augmentations.rotate:Rotate",
        "color_jitter": "baselines.augmentations.color_jitter:ColorJitter",
        "brightness": "baselines.augmentations.brightness:Brightness",
        "contrast": "baselines.augmentations.contrast:Contrast",
        "grayscale": "baselines.augmentations.grayscale:Grayscale",
        "blur": "baselines.augmentations.blur:Blur",
        "solarize": "baselines.augmentations.solarize:Solarize",
        "noise": "baselines.augmentations.noise:Noise",
        "cutout": "baselines.augmentations.cutout:Cutout",
        "sobel": "baselines.augmentations.sobel:Sobel",
        "identity": "baselines.augmentations.identity:Identity",
        "pair": "baselines.augmentations.pair:Pair",
        "simclr": "baselines.augmentations.simclr:SimCLR",
        "simclr_ual": "baselines.augmentations.simclr_ual:SimCLRUAL",
        "weak": "baselines.augmentations.weak:Weak",
        "strong": "baselines.augmentations.strong:Strong",
        "weak_strong": "baselines.augmentations.weak_strong:WeakStrong",
    },
    "backbones": {
        "dcnn3": "baselines.backbones.dcnn3:DCNN3",
        "resnet18": "baselines.backbones.resnet18:ResNet18",
    },
    "ssl_methods": {
        "none": "baselines.ssl_methods.none:NoPretraining",
        "simclr": "baselines.ssl_methods.simclr:SimCLR",
    },
    "selectors": {
        "coreset": "baselines.selectors.coreset:CoreSet",
        "entropy": "baselines.selectors.entropy:Entropy",
        "least_confidence": "baselines.selectors.least_confidence:LeastConfidence",
        "margin": "baselines.selectors.margin:Margin",
        "random": "baselines.selectors.random:Random",
        "ual": "baselines.selectors.ual:UAL",
    },
}
