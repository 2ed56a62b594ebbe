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
    'iterations': [
        'upernet_ca_swin_mini',
        'model.backbone.arch.embed_dims=16',
        'model.decode_head.in_channels=[16,32,64,128]',
        'model.auxiliary_head.in_channels=64',
        'default_hooks.checkpoint.save_best=mIoU',
    ],
}
LENGTHS = {'epochs': ('train_cfg.max_epochs', 6), 'iterations': ('train_cfg.max_iters', 36)}
EVERY = {'epochs': 1, 'iterations': 6}  # what lies between two checkpoints, and two validations


class Training:
    """One training, by `mmca train` in a process of its own, as often as it takes.

    Args:
        kind: 'epochs' (six iterations each) or 'iterations'.
        folder: for data, work dirs and output.
        name: of the work dir.
        length: factor of the number of epochs or iterations.
        launcher: the module that starts `mmca`, with its arguments.
    """

    def __init__(self, kind, folder, name, length=1, launcher=()):
        self.work_dir, self._folder = folder / name, folder
        config, *options = KINDS[kind]
        key, end = LENGTHS[kind]
        self.config = folder / f'{name}.py'
        self.config.write_text(
            f'_base_ = {str(CONFIGS / f"mini/{config}.py")!r}\n'
            "custom_imports = dict(imports=['mmca', 'tests.stress.phases'])\n"
        )
        self.options = [
            *ARCH,
            *options,
            f'{key}={end * length}',
            f'train_cfg.val_interval={EVERY[kind]}',
            f'default_hooks.checkpoint.interval={EVERY[kind]}',
        ]
        self._launcher = [*launcher, '-m', 'mmca'] if launcher else ['mmca']
        self._flags = ['--launcher', 'pytorch'] if launcher else []
        self._phase = folder / f'{name}.phase'

    def start(self, *flags):
        self._phase.write_text('start')
        env = {**os.environ, 'MMCA_DATA_ROOT': str(self._folder), 'MMCA_SLOW_DISK': '0.5'}
        env['MMCA_PHASES'] = str(self._phase)
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
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, phase):
        """Wait until a phase begins, such as 'training 8'."""
        while not self.phase.startswith(phase):
            assert self.process.poll() is None, self.output
            time.sleep(0.005)

    def stop(self, phase, delay, number):
        """Send a signal some seconds after a phase begins; returns the phase that it hit."""
        self.wait_for(phase)
        time.sleep(delay)
        hit = self.phase
        self.process.send_signal(number)
        return hit.split()[0]

    @property
    def phase(self):
        return self._phase.read_text()

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


def differences(one, other, place=''):
    """Where two contents of checkpoints differ."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, dict):
        items = [(key, one[key], other[key]) for key in one] if one.keys() == other.keys() else None
    elif isinstance(one, (list, tuple)):
        items = [(i, *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if one == other else [place]
    if items is None:
        return [place]
    return [name for key, a, b in items for name in differences(a, b, f'{place}/{key}')]


def same(whole, broken):
    """Whether two runs left the same checkpoints, to the last bit."""
    assert whole.keys() == broken.keys()
    for name, content in whole.items():
        parts = ['state_dict', *(['optimizer', 'param_schedulers'] if name[:4] != 'best' else [])]
        for part in parts:
            assert differences(content[part], broken[name][part]) == [], (name, part)
    return True
