// The smoke story, for any client that has call(key, action, parameters) -> the answer's body by wire names.
//
// `call` throws what the SDK throws; `refusal` turns that into { code, message }.
'use strict';

const { SDK_KEY_ID: id, SDK_KEY_SECRET: secret, SDK_NAME: name } = process.env;
const VERSIONS = { old: '1.0.0', new: '2.0.0' };

async function upload(ticket, content) {
  const form = new FormData();
  form.set('key', ticket.Key);
  form.set('policy', ticket.Policy);
  form.set('OSSAccessKeyId', ticket.OSSAccessKeyId);
  form.set('signature', ticket.Signature);
  form.set('success_action_status', '200');
  form.set('file', new Blob([content]), 'package.bin');
  const answer = await fetch(ticket.Host, { method: 'POST', body: form });
  if (answer.status !== 200) throw new Error(`the upload was answered ${answer.status}: ${await answer.text()}`);
}

async function tell({ call, refusal }) {
  const key = { id, secret };
  const ok = async (action, parameters) => {
    const body = await call(key, action, parameters);
    if (body.Success !== true || body.Code) throw new Error(`${action}: ${JSON.stringify(body)}`);
    return body;
  };
  const product = (await ok('CreateProduct', { ProductName: name, NodeType: 0 })).ProductKey;
  const device = (await ok('RegisterDevice', { ProductKey: product, DeviceName: 'device_1' })).Data;
  const ticket = (await ok('GenerateOTAUploadURL', { FileSuffix: 'bin' })).Data;
  await upload(ticket, 'a package');
  const firmware = (
    await ok('CreateOTAFirmware', {
      ProductKey: product,
      FirmwareName: `包(1)-${name}`,
      FirmwareDesc: "a b*~/+é'!() 说明",
      DestVersion: VERSIONS.new,
      FirmwareUrl: ticket.FirmwareUrl,
      NeedToVerify: false,
    })
  ).Data.FirmwareId;
  const fixed = (
    await ok('CreateOTAStaticUpgradeJob', {
      ProductKey: product,
      FirmwareId: firmware,
      TargetSelection: 'SPECIFIC',
      TargetDeviceName: [device.DeviceName],
      Tag: [
        { Key: 'ring', Value: '1 + 1 = 2 & more' },
        { Key: 'owner', Value: '我' },
      ],
    })
  ).Data.JobId;
  const rule = { ProductKey: product, FirmwareId: firmware, SrcVersion: [VERSIONS.old] };
  const standing = (await ok('CreateOTADynamicUpgradeJob', rule)).Data.JobId;
  const page = { CurrentPage: 1, PageSize: 10 };
  const jobs = await ok('ListOTAJobByFirmware', { FirmwareId: firmware, ...page });
  await ok('CancelOTATaskByJob', { JobId: fixed, CancelQueuedTask: true });
  await ok('CancelOTAStrategyByJob', { JobId: standing });
  const tasks = await ok('ListOTATaskByJob', { JobId: fixed, ...page });
  const described = (await ok('QueryOTAFirmware', { FirmwareId: firmware })).FirmwareInfo.FirmwareDesc;
  const tells = async (who, parameters) => {
    try {
      return refusal(null, await call(who, 'QueryOTAJob', parameters));
    } catch (error) {
      return refusal(error, null);
    }
  };
  const seen = {
    product,
    device: device.DeviceName,
    firmware,
    static: fixed,
    dynamic: standing,
    total: jobs.Total,
    jobs: jobs.Data.SimpleOTAJobInfo.map((job) => job.JobId),
    tags: jobs.Data.SimpleOTAJobInfo.at(-1).Tags.OtaTagDTO.map((tag) => [tag.Key, tag.Value]),
    tasks: tasks.Data.SimpleOTATaskInfo.map((task) => task.TaskStatus),
    description: described,
    business: await tells(key, { JobId: 'unknown' }),
    unknown_key: await tells({ id: 'nobody', secret }, { JobId: 'unknown' }),
    wrong_secret: await tells({ id, secret: 'wrong' }, { JobId: 'unknown' }),
  };
  console.log(JSON.stringify(seen));
}

module.exports = (client) =>
  tell(client).catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
