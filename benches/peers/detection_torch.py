"""What benches/detection.rs measures, with PyTorch and torchvision. Prints one JSON line each.

    python benches/peers/detection_torch.py [PART OF A NAME ..]
"""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, batched_nms, nms

torch.manual_seed(3)


def boxes(count):
    out, centre = [], None
    uniform = lambda low, high: float(torch.empty(1).uniform_(low, high))
    for i in range(count):
        if i % 10 == 0:
            centre = uniform(0, 600), uniform(0, 480), uniform(16, 200)
        x, y = centre[0] + uniform(-20, 20), centre[1] + uniform(-20, 20)
        w, h = centre[2] * uniform(0.7, 1.4), centre[2] * uniform(0.7, 1.4)
        out.append([max(x, 0), max(y, 0), min(max(x + w, 1), 640), min(max(y + h, 1), 512)])
    return torch.tensor(out)


def report(name, times, work):
    chosen = [arg for arg in sys.argv[1:] if not arg.startswith("-")]
    if chosen and not any(part in name for part in chosen):
        return
    work()
    measured = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        measured.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"peer": "torch", "work": name, "ms": round(statistics.median(measured), 3)}), flush=True)


class Attention(nn.Module):
    def __init__(self, dim, heads, grid):
        super().__init__()
        self.heads, self.grid = heads, grid
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.rel = nn.ParameterList(nn.Parameter(torch.zeros(2 * side - 1, dim // heads)) for side in grid)

    def forward(self, x):
        batch, tokens, dim = x.shape
        height, width = self.grid
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        tables = []
        for table, side in zip(self.rel, self.grid):
            index = torch.arange(side)[:, None] - torch.arange(side)[None] + side - 1
            tables.append(table[index])
        grid = q.reshape(batch * self.heads, height, width, -1)
        rows = torch.einsum("bhwc,hkc->bhwk", grid, tables[0])
        columns = torch.einsum("bhwc,wkc->bhwk", grid, tables[1])
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        logits = logits.view(-1, height, width, height, width) + rows[..., None] + columns[..., None, :]
        out = logits.view(batch, self.heads, tokens, tokens).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    def __init__(self, dim, heads, grid, window):
        super().__init__()
        self.grid, self.window = grid, window
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn = Attention(dim, heads, (window, window) if window else grid)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def attend(self, x):
        if not self.window:
            return self.attn(x)
        (height, width), side = self.grid, self.window
        batch, _, dim = x.shape
        down, right = -height % side, -width % side
        x = F.pad(x.view(batch, height, width, dim), (0, 0, 0, right, 0, down))
        rows, columns = (height + down) // side, (width + right) // side
        x = x.view(batch, rows, side, columns, side, dim).transpose(2, 3).reshape(-1, side * side, dim)
        x = self.attn(x).view(batch, rows, columns, side, side, dim).transpose(2, 3)
        x = x.reshape(batch, height + down, width + right, dim)[:, :height, :width]
        return x.reshape(batch, -1, dim)

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ChannelNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def lateral(inputs, outputs):
    one, three = nn.Conv2d(inputs, outputs, 1, bias=False), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(one, ChannelNorm(outputs), three, ChannelNorm(outputs))


class ViTDet(nn.Module):
    def __init__(self, dim, depth, heads, height, width):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 16, 16)
        self.pos = nn.Parameter(torch.zeros(1, height * width, dim))
        self.grid = height, width
        window = lambda i: 0 if i in (2, 5, 8, 11) else 14
        self.blocks = nn.Sequential(*(Block(dim, heads, self.grid, window(i)) for i in range(depth)))
        half = nn.ConvTranspose2d(dim, dim // 2, 2, 2)
        up = [half, ChannelNorm(dim // 2), nn.GELU(), nn.ConvTranspose2d(dim // 2, dim // 4, 2, 2)]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*up, lateral(dim // 4, 256)),
                nn.Sequential(nn.ConvTranspose2d(dim, dim // 2, 2, 2), lateral(dim // 2, 256)),
                lateral(dim, 256),
                nn.Sequential(nn.MaxPool2d(2), lateral(dim, 256)),
            ]
        )

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2) + self.pos
        x = self.blocks(x).transpose(1, 2).reshape(len(images), -1, *self.grid)
        maps = [level(x) for level in self.levels]
        return maps + [F.max_pool2d(maps[-1], 1, 2)]


proposals, scores = boxes(5000), torch.rand(5000)
groups = torch.arange(5000) % 5
report("nms 5000", 20, lambda: nms(proposals, scores, 0.7))
report("batched_nms 5000, 5 groups", 20, lambda: batched_nms(proposals, scores, groups, 0.7))

maps = {str(i): torch.randn(1, 256, 512 // 4 >> i, 640 // 4 >> i) for i in range(4)}
pooler = MultiScaleRoIAlign(list(maps), 7, 0, canonical_scale=224, canonical_level=4)
with torch.no_grad():
    report("roi_align 512 x 256 x 7 x 7", 20, lambda: pooler(maps, [proposals[:512]], [(512, 640)]))
tracked = {name: map.requires_grad_() for name, map in maps.items()}
report(
    "roi_align 512 x 256 x 7 x 7, with gradient",
    10,
    lambda: pooler(tracked, [proposals[:512]], [(512, 640)]).sum().backward(),
)
model, images = ViTDet(768, 12, 12, 32, 40).eval(), torch.randn(1, 3, 512, 640)
with torch.no_grad():
    report("ViTDet-B maps 640 x 512", 3, lambda: model(images))


class Backbone(ViTDet):
    out_channels = 256

    def forward(self, images):
        return {str(i): map for i, map in enumerate(super().forward(images))}


def detector():
    anchors = AnchorGenerator(tuple((side,) for side in (32, 64, 128, 256, 512)), ((0.5, 1.0, 2.0),) * 5)
    names = [str(i) for i in range(4)]
    return FasterRCNN(
        Backbone(768, 12, 12, 32, 40),
        min_size=512,
        max_size=640,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(256, 3, conv_depth=2),
        rpn_pre_nms_top_n_train=2000,
        rpn_post_nms_top_n_train=1000,
        box_roi_pool=MultiScaleRoIAlign(names, 7, 0, canonical_scale=224, canonical_level=4),
        box_head=FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=ChannelNorm),
        box_predictor=FastRCNNPredictor(1024, 4),
        box_batch_size_per_image=512,
    ).train()


class Step:
    def __init__(self):
        self.model = detector()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-5, weight_decay=0.1)
        self.targets = [{"boxes": boxes(20), "labels": torch.arange(20) % 3 + 1}]

    def __call__(self):
        total = sum(self.model(list(images), self.targets).values())
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        assert total.isfinite()


name = "ViTDet-B step 640 x 512"
if not sys.argv[1:] or any(part in name for part in sys.argv[1:]):
    report(name, 3, Step())
