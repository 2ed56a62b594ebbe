_base_ = 'ca_deit_t.py'
# The original with its class token; `mmca test` loads the original's weights unchanged.
model = dict(
    backbone=dict(type='mmca.DeiT', with_cls_token=True, out_type='cls_token'),
    neck=None,
)
