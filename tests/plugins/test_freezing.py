"""What is frozen stays as it is: in copies, on other devices, in pre-training and in fine-tuning."""

import copy

import pytest
import torch
from torch import nn
from trials import Bench, configure

from baselines.backbones.dcnn3 import DCNN3
from baselines.backbones.resnet18 import ResNet18
from baselines.backbones.vgg16 import VGG16
from baselines.backbones.vit import ViT
from baselines.backbones.wide_resnet28 import WideResNet28
from baselines.ssl_methods.moco_v2 import MoCoV2
from harness import files
from harness.config.schema import ConfigError
from harness.config.trial import PretrainConfig
from harness.plugins import registry
from harness.plugins.outline import outlining
from harness.trial import pretraining
from harness.trial.optimizers import build_optimizer

SHAPE = (3, 32, 32)
STAGES = {
    DCNN3: [(32, 16, 16), (64, 8, 8), (128, 4, 4)],
    ResNet18: [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)],
    VGG16: [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2), (512, 1, 1)],
    WideResNet28: [(32, 32, 32), (64, 16, 16), (128, 8, 8)],
    ViT: [(65, 192)] * 6,
}


@pytest.mark.parametrize("backbone", STAGES)
def test_stages_are_the_networks_depths(backbone):
    network = backbone(SHAPE)
    shapes = []
    for stage in network.stages():
        stage.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        network(torch.zeros(1, *SHAPE))
    assert shapes == STAGES[backbone]


def test_poolings_that_are_left_out_are_stages_of_vgg():
    assert len(VGG16((1, 8, 8)).stages()) == 5


def trained_names(backbone):
    return {name.partition(".")[2].partition(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}


def frozen(freeze):
    torch.manual_seed(0)
    backbone = ResNet18((3, 16, 16), dropout=0.5)
    backbone.freeze(freeze)
    return backbone


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        (False, {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
        (1, {"layer2", "layer3", "layer4"}),
        (3, {"layer4"}),
        (4, set()),
        (True, set()),
    ],
)
def test_the_first_stages_and_the_stem_are_frozen(freeze, trained):
    backbone = frozen(freeze)
    assert trained_names(backbone) == trained
    backbone.train()
    modes = {name: layer.training for name, layer in backbone.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert {name.split(".")[1] for name, training in modes.items() if training} == trained & {"bn1", *trained} - {
        "conv1"
    }
    assert backbone.layers.fc.training == (freeze is not True)  # the dropout of the features
    backbone.eval()
    assert not any(module.training for module in backbone.modules())


def test_a_vits_own_parameters_are_frozen_with_its_first_block():
    backbone = ViT(SHAPE, dim=12, depth=2, heads=2)
    backbone.freeze(1)
    assert {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad} == {"blocks", "norm"}
    assert not any(p.requires_grad for p in backbone.blocks[0].parameters())


@pytest.mark.parametrize("freeze", [0, -1, 5])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_more_stages_than_there_are_are_refused(freeze, device):
    with torch.device(device), pytest.raises(ValueError, match=rf"freeze = {freeze} is neither .* nor in 1 \.\. 4"):
        frozen(freeze)


@pytest.mark.parametrize("change", [copy.deepcopy, lambda b: b.to(torch.float64), lambda b: copy.deepcopy(b.double())])
def test_freezing_survives_copies_and_conversions(change):
    backbone = change(frozen(2)).train()
    assert trained_names(backbone) == {"layer3", "layer4"}
    assert not backbone.layers.layer2.training
    assert not backbone.layers.layer2[0].bn1.training
    assert backbone.layers.layer3.training


def test_a_momentum_encoder_is_frozen_as_well():
    method = MoCoV2(frozen(2), hidden_dim=8, projection_dim=4, queue_size=16).train()
    followers = [module for module in method.modules() if isinstance(module, ResNet18)]
    assert len(followers) == 2
    assert all(not b.layers.bn1.training and b.layers.layer4[0].bn1.training for b in followers)


def test_nothing_to_train_is_said():
    with pytest.raises(ValueError, match="nothing is left to train"):
        build_optimizer(frozen(True).parameters(), PretrainConfig())


# --- in trials ---

RESNETS = {"backbone": {"name": "wide_resnet28", "width": 1, "freeze": 2}, "data__fraction": 0.05}


def settings(**changes):
    return configure(pretrain__batch_size=32, pretrain__epochs=1, labels={"start": 20}, **changes)


def states_of(monkeypatch, stages, bench, config):
    """The encoder's state when it is built and, as its stages have them, pre-trained and fine-tuned."""
    initial = []
    build = registry.build

    def built(spec, *arguments):
        plugin = build(spec, *arguments)
        if spec.kind == "backbones" and not outlining():  # one whose sizes are tried
            initial.append(copy.deepcopy(plugin.state_dict()))
        return plugin

    monkeypatch.setattr(registry, "build", built)
    bench.run(config)
    (pretrained,), (tuned,) = (list(stages.glob(f"{kind}/*/result.pt")) for kind in ("pretrain", "train"))
    models = (torch.load(pretrained)["method"], torch.load(tuned)["model"])
    return [initial[0], *({name: model[f"backbone.{name}"] for name in initial[0]} for model in models)]


@pytest.mark.parametrize(("freeze", "moving"), [(2, {"9", "10", "11", "12", "13"}), (True, set())])
def test_frozen_stages_hold_in_pretraining_and_finetuning(monkeypatch, tmp_path, cache, freeze, moving):
    backbone = {"name": "wide_resnet28", "width": 1, "freeze": freeze}
    config = settings(backbone=backbone, data__fraction=0.05, classifier={"name": "finetune", "epochs": 1})
    initial, pretrained, tuned = states_of(monkeypatch, tmp_path, Bench(cache, tmp_path), config)
    for before, after in ((initial, pretrained), (pretrained, tuned)):
        changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
        assert changed == moving


def test_checkpoints_and_freezing_are_part_of_the_stages_keys(tmp_path, cache):
    weights = tmp_path / "weights.pt"
    keys = []
    for seed, freeze in ((1, False), (2, False), (2, 1), (2, True)):
        torch.manual_seed(seed)
        torch.save(DCNN3((1, 8, 8), width=4).state_dict(), weights)
        config = settings(backbone={"name": "dcnn3", "width": 4, "weights": str(weights), "freeze": freeze})
        for changed in (config, settings(backbone=config.backbone, ssl_method="none")):
            keys.append(files.digest_of(pretraining.pretrain_key(changed, 0, "data")))
    assert len(set(keys)) == len(keys)
    again = settings(backbone={"name": "dcnn3", "width": 4, "weights": str(weights), "freeze": True})
    weights.rename(tmp_path / "moved.pt")
    moved = settings(backbone={"name": "dcnn3", "width": 4, "weights": str(tmp_path / "moved.pt"), "freeze": True})
    assert files.digest_of(pretraining.pretrain_key(moved, 0, "data")) == keys[-2]
    with pytest.raises(ValueError, match="is neither a file nor published"):
        pretraining.pretrain_key(again, 0, "data")


def test_an_encoder_pretrained_here_goes_on_as_weights(tmp_path, cache, capsys):
    bench = Bench(cache, tmp_path)
    pretrained = settings()
    rows, _ = bench.run(pretrained)
    (result,) = (tmp_path / "pretrain").glob("*/result.pt")
    later, _ = bench.run(settings(backbone={"name": "dcnn3", "width": 4, "weights": str(result)}, ssl_method="none"))
    assert later[-1][2]["val/loss"] == pytest.approx(rows[-1][2]["val/loss"], rel=1e-5)
    assert "from method.backbone.*" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"freeze": 4},
            "trial.backbone: backbone 'dcnn3': freeze = 4 is neither true nor false nor in 1 .. 3, its stages",
        ),
        ({"weights": "nowhere.pt"}, "trial.backbone: backbone 'dcnn3': weights = 'nowhere.pt' is neither a file nor"),
        ({"weights": 3}, "trial.backbone.weights: expected a text or null, not 3"),
    ],
)
def test_mistakes_are_found_before_a_trial(changes, message):
    with pytest.raises(ConfigError) as raised:
        settings(backbone={"name": "dcnn3", **changes})
    assert str(raised.value).startswith(message)
