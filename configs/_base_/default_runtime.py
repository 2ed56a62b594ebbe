# Shared by detection and segmentation; det_runtime.py and seg_runtime.py build on it.
# Importing the engine makes loading safe in any tool that reads this config.
custom_imports = dict(imports=['mmca.engine'], allow_failed_imports=False)
# Checks, hooks, errors in one line; the libraries' train tools and mmdet's test tool build it.
runner_type = 'mmca.Runner'

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# Every recipe is for 8 GPUs x 2 images. With another total, --auto-scale-lr (or
# --cfg-options auto_scale_lr.enable=True) scales the learning rate in proportion.
auto_scale_lr = dict(enable=False, base_batch_size=16)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmca.CheckpointHook', max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    checks=dict(type='mmca.CheckHook'),  # before the first iteration
    finite_loss=dict(type='mmca.FiniteLossHook'),  # aborts when the loss stays NaN
    preemption=dict(type='mmca.PreemptionHook'),  # writes a checkpoint on SIGTERM
    resume=dict(type='mmca.ResumeHook'),  # resumes at the exact iteration
    throughput=dict(type='mmca.ThroughputHook'),  # logs images per second
)

# A resumed run ends like an uninterrupted one.
custom_hooks = [dict(type='mmca.SeedHook')]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

log_level = 'INFO'
load_from = None
resume = False
