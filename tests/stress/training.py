"""Trainings of seconds in processes of their own, which tests stop and resume."""

import os
import subprocess
import sys
import time

import torch

from tests.helpers import CONFIGS, ROOT

ARCH = ['model.backbone.arch.depths=(1,1,1,1)', 'model.backbone.arch.num_heads=(1,1,1,1)']
MARK = '--- another start\n'
PHASES = [
    'default_hooks.phases.type=PhaseHook',
    'default_hooks.checkpoint.backend_args.backend=slow',
    'default_hooks.checkpoint.max_keep_ckpts=1',
    'model.backbone.drop_path_rate=0.5',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=2',
]
KINDS = {
    'epochs': [
        'maskrcnn_ca_pvt_mini',
        'model.backbone.arch.embed_dims=(16,16,16,16)',
        'model.neck.in_channels=[16,16,16,16]',
        'default_hooks.checkpoint.save_best=coco/bbox_mAP',
    ],
    'classifier': [
        'pretrain_ca_pvt_mini',
        'model.backbone.arch.embed_dims=(16,16,16,16)',
        'model.neck.in_channels=16',
        'model.head.in_channels=16',
        # Flips draw random numbers in the loading processes, this in the model's.
        'model.train_cfg.augments.type=Mixup',
        'model.train_cfg.augments.alpha=0.8',
        'default_hooks.checkpoint.save_best=accuracy/top1',
    ],
    'iterations': [
        'upernet_ca_swin_mini',
        'model.backbone.arch.embed_dims=16',
        'model.decode_head.in_channels=[16,32,64,128]',
        'model.auxiliary_head.in_channels=64',
        'default_hooks.checkpoint.save_best=mIoU',
    ],
}


def make_data(folder):
    """The synthetic data set, six iterations an epoch."""
    command = [sys.executable, 'tools/make_mini.py', '--out', str(folder / 'mini')]
    subprocess.run([*command, '--train', '12', '--val', '2'], cwd=ROOT, check=True)


class Training:
    """A training of a kind in `KINDS`, which validates and saves every six iterations."""

    def __init__(self, kind, folder, name, length=1, launcher=()):
        self.work_dir, self._folder = folder / name, folder
        config, *options = KINDS[kind]
        by_epoch = kind != 'iterations'
        end = f'max_epochs={6 * length}' if by_epoch else f'max_iters={36 * length}'
        every = 1 if by_epoch else 6
        self.config = folder / f'{name}.py'
        self.config.write_text(
            f'_base_ = {str(CONFIGS / f"mini/{config}.py")!r}\n'
            "custom_imports = dict(imports=['mmca', 'tests.stress.phases'])\n"
        )
        self.options = [
            *ARCH,
            *options,
            f'train_cfg.{end}',
            f'train_cfg.val_interval={every}',
            f'default_hooks.checkpoint.interval={every}',
        ]
        self._launcher = [*launcher, '-m', 'mmca'] if launcher else ['mmca']
        self._flags = ['--launcher', 'pytorch'] if launcher else []
        self._phase = folder / f'{name}.phase'

    def start(self, *flags):
        self._phase.write_text('start')
        paths = {'MMCA_DATA_ROOT': str(self._folder), 'MMCA_PHASES': str(self._phase)}
        with open(f'{self.work_dir}.txt', 'a') as output:
            output.write(MARK)
            output.flush()
            self.process = subprocess.Popen(
                [
                    *(sys.executable, '-m', *self._launcher, 'train', str(self.config)),
                    *('--work-dir', str(self.work_dir), *self._flags, *flags),
                    *('--cfg-options', *self.options, *PHASES),
                ],
                cwd=ROOT,
                env={**os.environ, **paths},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, phase):
        """Wait until a phase begins, such as 'training 8'."""
        while not self._phase.read_text().startswith(phase):
            assert self.process.poll() is None, self.output
            time.sleep(0.005)

    def stop(self, phase, delay, number):
        """Send a signal some seconds after a phase begins."""
        self.wait_for(phase)
        time.sleep(delay)
        self.process.send_signal(number)

    @property
    def output(self):
        with open(f'{self.work_dir}.txt') as file:
            return file.read()

    @property
    def checkpoints(self):
        return [path for path in self.work_dir.glob('*.pth') if not path.name.startswith('best')]

    def leaves_processes(self, seconds=20):
        """Whether data workers outlive a training that was killed for longer than they may."""
        end = time.monotonic() + seconds
        find = ['pgrep', '-f', '--', f'--work-dir {self.work_dir} ']
        while alive := subprocess.run(find, capture_output=True).stdout:
            if time.monotonic() > end:
                return alive
            time.sleep(0.5)
        return False

    def end(self):
        assert self.process.wait(300) == 0, self.output
        return {
            path.name: torch.load(path, weights_only=False)
            for path in self.work_dir.glob('*.pth')
            if path.name != 'preempted.pth'
        }


def equal(one, other):
    """Whether two contents of checkpoints are equal, to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def same(whole, broken):
    """Whether two runs left the same checkpoints."""
    assert whole.keys() == broken.keys()
    for name, content in whole.items():
        parts = ['state_dict', *(['optimizer', 'param_schedulers'] if name[:4] != 'best' else [])]
        for part in parts:
            assert equal(content[part], broken[name][part]), (name, part)
    return True
