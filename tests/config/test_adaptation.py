"""Any config of mmdet and mmseg on a backbone of mmca: `mmca config BASE --backbone NAME`."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmca.config import adapt
from mmca.config.adaptation import plan
from mmca.config.reader import read_config
from mmca.errors import InputError
from tests.helpers import needs_mmpretrain

FASTER = 'mmdet::faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco'
DINO = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco'
PSPNET = 'mmseg::pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024'


@pytest.mark.parametrize(
    ('base', 'backbone', 'key', 'channels'),
    [
        (FASTER, 'ca_pvt_t', 'neck.in_channels', [64, 128, 320, 512]),
        (DINO, 'ca_swin_t', 'neck.in_channels', [192, 384, 768]),
        # Deepest first, and heads whose numbers equal the old backbone's.
        ('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco', 'pvt_t', 'neck.in_channels', [512, 320, 128]),
        # A tuple stays one; the neck passes a map on to the auxiliary head.
        (
            'mmseg::fastfcn/fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024',
            'ca_pvt_t',
            'neck.in_channels',
            (128, 320, 512),
        ),
        (PSPNET, 'flatten_pvt_t', 'decode_head.in_channels', 512),
        # One of five numbers 512 is the backbone's.
        (
            'mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512',
            'ca_pvt_t',
            'decode_head.kernel_generate_head.in_channels',
            512,
        ),
        # A plain ViT's neck goes.
        (
            'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512',
            'ca_swin_t',
            'decode_head.in_channels',
            [96, 192, 384, 768],
        ),
        ('coco/retinanet_ca_pvt_t', 'ca_swin_t', 'neck.in_channels', [192, 384, 768]),
    ],
)
def test_channels_follow_the_backbone(base, backbone, key, channels):
    cfg = adapt(read_config(base), backbone)
    value = cfg.model
    for name in key.split('.'):
        value = value[name]
    assert value == channels
    assert type(value) is type(channels)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        MODELS.build(cfg.model).extract_feat(torch.zeros(1, 3, 64, 64))


def test_where_channels_repeat_a_head_names_its_map():
    cfg = read_config('mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512')
    cfg.model.auxiliary_head.in_index = 2
    assert adapt(cfg, 'ca_swin_t').model.auxiliary_head.in_channels == 384


def test_numbers_that_equal_the_backbones_by_chance_stay():
    base = read_config('mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512')
    head = adapt(base, 'ca_swin_t').model.decode_head
    assert [one.in_channels for one in head.kernel_update_head] == [512] * 3
    assert adapt(read_config(FASTER), 'ca_pvt_t').model.rpn_head.in_channels == 256


RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco'


@pytest.mark.parametrize('base', [FASTER, RETINANET, DINO, PSPNET])
def test_deit_gets_a_pyramid(base):
    cfg = adapt(read_config(base), 'ca_deit_t')
    first = cfg.model.neck if base in (FASTER, RETINANET) else cfg.model.neck[0]
    assert first.type == 'mmca.SimpleFeaturePyramid'
    assert first.in_channels == 192
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        maps = model.extract_feat(torch.zeros(1, 3, 64, 64))
    expected = {
        FASTER: [16, 8, 4, 2, 1],
        RETINANET: [8, 4, 2, 1, 1],
        DINO: [8, 4, 2, 1],
        PSPNET: [16, 8, 4, 2],
    }
    assert [one.shape[2] for one in maps] == expected[base]


@pytest.mark.parametrize('name', ['maskrcnn', 'retinanet'])
def test_deits_pyramid_becomes_an_fpn(name):
    base = read_config(f'coco/{name}_ca_deit_t')
    cfg = adapt(base, 'ca_swin_t')
    assert cfg.model.neck.type == 'FPN'
    assert cfg.model.neck.in_channels == [96, 192, 384, 768]
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        old, new = (
            MODELS.build(one.model).extract_feat(torch.zeros(1, 3, 256, 256)) for one in (base, cfg)
        )
    assert [one.shape for one in new] == [one.shape for one in old]


@pytest.mark.parametrize('base', ['coco/retinanet_ca_deit_t', 'camvid/fpn_ca_deit_t'])
def test_another_deit_keeps_the_pyramid(base):
    base = read_config(base)
    model = adapt(base, 'deit_s').model
    assert model.neck == {**base.model.neck, 'in_channels': 384}
    for head in ('bbox_head', 'decode_head'):
        assert model.get(head) == base.model.get(head)


def test_norms_that_need_a_process_group_stay():
    base = 'mmdet::strong_baselines/mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco'
    cfg = adapt(read_config(base), 'ca_pvt_t')
    assert cfg.model.roi_head.bbox_head.norm_cfg.type == 'MMSyncBN'
    assert cfg.model.neck.in_channels == [64, 128, 320, 512]


@needs_mmpretrain
@pytest.mark.parametrize('backbone', ['ca_pvt_t', 'ca_deit_t'])
@pytest.mark.parametrize(
    'base',
    [
        'resnet/resnet50_8xb32_in1k',
        'swin_transformer/swin-tiny_16xb64_in1k',  # initializers in its init_cfg
        'deit/deit-small_4xb256_in1k',  # a head of tokens, no neck
        'mobilenet_v3/mobilenet-v3-small_8xb128_in1k',  # a head of two layers
        'hrnet/hrnet-w18_4xb32_in1k',  # two necks
    ],
)
def test_classifiers(base, backbone):
    base = read_config(f'mmpretrain::{base}')
    cfg = adapt(base, backbone)
    assert cfg.model.get('init_cfg') == base.model.get('init_cfg')
    assert cfg.model.head.loss == base.model.head.loss
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        assert MODELS.build(cfg.model)(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_images_weights_and_recipe():
    base = read_config(PSPNET)
    cfg = adapt(base, 'ca_swin_t')
    assert cfg.model.pretrained is None
    assert cfg.model.backbone.get('init_cfg') is None
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert 'momentum' not in cfg.optim_wrapper
    assert cfg.optim_wrapper.constructor == 'mmca.OptimWrapperConstructor'
    warm_up, decay = cfg.param_scheduler
    assert warm_up.type == 'LinearLR'
    assert decay.end == base.param_scheduler[0].end
    ratio = cfg.optim_wrapper.optimizer.lr / base.optim_wrapper.optimizer.lr
    assert decay.eta_min == pytest.approx(base.param_scheduler[0].eta_min * ratio)
    kept = adapt(base, 'ca_swin_t', keep_recipe=True)
    assert kept.optim_wrapper == base.optim_wrapper
    assert kept.param_scheduler == base.param_scheduler
    caffe = adapt(read_config(FASTER), 'ca_pvt_t').model.data_preprocessor
    assert caffe.mean == [123.675, 116.28, 103.53]
    assert caffe.bgr_to_rgb
    # Transformers' own AdamW stays, and so does its lower rate for the backbone.
    assert adapt(read_config(DINO), 'ca_pvt_t').optim_wrapper == read_config(DINO).optim_wrapper
    base.model.backbone.in_channels = 1  # images of other channels
    base.model.data_preprocessor.update(mean=[128.0], std=[64.0], bgr_to_rgb=False)
    gray = adapt(base, 'ca_pvt_t').model
    assert gray.backbone.in_channels == 1
    assert gray.data_preprocessor == base.model.data_preprocessor


@pytest.mark.parametrize(
    ('base', 'problem'),
    [
        ('mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco', 'RoI head uses a stage of'),
        ('mmdet::detectors/detectors_htc-r50_1x_coco', 'has 5 maps'),
        ('mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco', 'maps of one stride'),
        ('mmdet::rtmdet/rtmdet_l_swin_b_p6_4xb16-100e_coco', r'at strides \[8, 16, 32, 64\]'),
        ('mmdet::tridentnet/tridentnet_r50-caffe_1x_coco', 'needs more from TridentResNet than'),
        ('mmdet::misc/d2_mask-rcnn_r50-caffe_fpn_ms-90k_coco', 'has no backbone'),
    ],
)
def test_what_cannot_be_done_is_refused(base, problem):
    with pytest.raises(InputError, match=problem):
        plan(read_config(base), 'ca_pvt_t')
