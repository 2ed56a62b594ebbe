_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/cls_runtime.py',
]
# The original, class token included; `mmca test` takes the original's weights as they are.
model = dict(
    backbone=dict(
        type='mmca.DeiT',
        arch='tiny',
        drop_path_rate=0.1,
        with_cls_token=True,
        out_type='cls_token',
    ),
    head=dict(in_channels=192),
)
