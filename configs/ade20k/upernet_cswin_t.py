# Softmax baseline with the original's recipe.
_base_ = 'upernet_ca_cswin_t.py'
model = dict(backbone=dict(type='mmca.CSwin'))
