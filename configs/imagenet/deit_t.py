_base_ = 'ca_deit_t.py'
# The original, class token included; `mmca test` takes the original's weights as they are.
model = dict(
    backbone=dict(type='mmca.DeiT', with_cls_token=True, out_type='cls_token'),
    neck=None,
)
