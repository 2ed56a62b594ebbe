# Softmax baseline; the recipe is the original's, too.
_base_ = 'upernet_ca_cswin_t.py'
model = dict(backbone=dict(type='mmca.CSwin'))
