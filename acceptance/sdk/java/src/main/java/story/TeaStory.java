package story;

import com.aliyun.iot20180120.Client;
import com.aliyun.iot20180120.models.*;
import com.aliyun.tea.TeaException;
import com.aliyun.teaopenapi.models.Config;
import java.util.Arrays;
import java.util.List;

/** The smoke story with `com.aliyun:iot20180120` (header signature). */
public final class TeaStory {
    private static Client client(String id, String secret) throws Exception {
        return new Client(new Config()
            .setAccessKeyId(id).setAccessKeySecret(secret).setEndpoint(Story.ENDPOINT).setProtocol(Story.PROTOCOL));
    }

    private static Story.Refusal refused(Client client) throws Exception {
        try {
            QueryOTAJobResponseBody body = client.queryOTAJob(new QueryOTAJobRequest().setJobId("unknown")).body;
            return new Story.Refusal(body.code, body.errorMessage, false);
        } catch (TeaException error) {
            return new Story.Refusal(error.getCode(), error.getMessage(), true);
        }
    }

    private static String uploaded(Client client) throws Exception {
        GenerateOTAUploadURLResponseBody body =
            client.generateOTAUploadURL(new GenerateOTAUploadURLRequest().setFileSuffix("bin")).body;
        Story.expect(body.success, body.code, body.errorMessage);
        Story.upload(body.data.host, body.data.key, body.data.policy, body.data.OSSAccessKeyId, body.data.signature);
        return body.data.firmwareUrl;
    }

    private static String product(Client client) throws Exception {
        CreateProductResponseBody body =
            client.createProduct(new CreateProductRequest().setProductName(Story.NAME).setNodeType(0)).body;
        Story.expect(body.success, body.code, body.errorMessage);
        return body.productKey;
    }

    private static String device(Client client, String product) throws Exception {
        RegisterDeviceResponseBody body =
            client.registerDevice(new RegisterDeviceRequest().setProductKey(product).setDeviceName("device_1")).body;
        Story.expect(body.success, body.code, body.errorMessage);
        return body.data.deviceName;
    }

    private static String firmware(Client client, String product) throws Exception {
        CreateOTAFirmwareResponseBody body = client.createOTAFirmware(new CreateOTAFirmwareRequest()
            .setProductKey(product).setFirmwareName("包(1)-" + Story.NAME).setFirmwareDesc(Story.DESCRIPTION)
            .setDestVersion("2.0.0").setFirmwareUrl(uploaded(client)).setNeedToVerify(false)).body;
        Story.expect(body.success, body.code, body.errorMessage);
        return body.data.firmwareId;
    }

    private static String staticBatch(Client client, String product, String device, String firmware) throws Exception {
        List<CreateOTAStaticUpgradeJobRequest.CreateOTAStaticUpgradeJobRequestTag> tags = Arrays.stream(Story.TAGS)
            .map(tag -> new CreateOTAStaticUpgradeJobRequest.CreateOTAStaticUpgradeJobRequestTag().setKey(tag[0]).setValue(tag[1]))
            .toList();
        CreateOTAStaticUpgradeJobResponseBody body = client.createOTAStaticUpgradeJob(new CreateOTAStaticUpgradeJobRequest()
            .setProductKey(product).setFirmwareId(firmware).setTargetSelection("SPECIFIC")
            .setTargetDeviceName(List.of(device)).setTag(tags)).body;
        Story.expect(body.success, body.code, body.errorMessage);
        return body.data.jobId;
    }

    private static String dynamicBatch(Client client, String product, String firmware) throws Exception {
        CreateOTADynamicUpgradeJobResponseBody body = client.createOTADynamicUpgradeJob(new CreateOTADynamicUpgradeJobRequest()
            .setProductKey(product).setFirmwareId(firmware).setSrcVersion(List.of("1.0.0"))).body;
        Story.expect(body.success, body.code, body.errorMessage);
        return body.data.jobId;
    }

    private static void cancel(Client client, String fixed, String standing) throws Exception {
        CancelOTATaskByJobResponseBody cancelled =
            client.cancelOTATaskByJob(new CancelOTATaskByJobRequest().setJobId(fixed).setCancelQueuedTask(true)).body;
        Story.expect(cancelled.success, cancelled.code, cancelled.errorMessage);
        CancelOTAStrategyByJobResponseBody ended =
            client.cancelOTAStrategyByJob(new CancelOTAStrategyByJobRequest().setJobId(standing)).body;
        Story.expect(ended.success, ended.code, ended.errorMessage);
    }

    private static void list(Story story, Client client, String firmware) throws Exception {
        ListOTAJobByFirmwareResponseBody body = client.listOTAJobByFirmware(
            new ListOTAJobByFirmwareRequest().setFirmwareId(firmware).setCurrentPage(1).setPageSize(10)).body;
        Story.expect(body.success, body.code, body.errorMessage);
        var jobs = body.data.simpleOTAJobInfo;
        story.see("total", body.total);
        story.see("jobs", jobs.stream().map(job -> job.jobId).toList());
        story.see("tags", jobs.get(jobs.size() - 1).tags.otaTagDTO.stream().map(tag -> List.of(tag.key, tag.value)).toList());
        QueryOTAFirmwareResponseBody described =
            client.queryOTAFirmware(new QueryOTAFirmwareRequest().setFirmwareId(firmware)).body;
        Story.expect(described.success, described.code, described.errorMessage);
        story.see("description", described.firmwareInfo.firmwareDesc);
    }

    public static void main(String[] arguments) throws Exception {
        Story story = Story.begin();
        Client client = client(Story.KEY_ID, Story.KEY_SECRET);
        String product = story.see("product", product(client));
        String device = story.see("device", device(client, product));
        String firmware = story.see("firmware", firmware(client, product));
        String fixed = story.see("static", staticBatch(client, product, device, firmware));
        String standing = story.see("dynamic", dynamicBatch(client, product, firmware));
        list(story, client, firmware);
        cancel(client, fixed, standing);
        ListOTATaskByJobResponseBody tasks = client.listOTATaskByJob(
            new ListOTATaskByJobRequest().setJobId(fixed).setCurrentPage(1).setPageSize(10)).body;
        Story.expect(tasks.success, tasks.code, tasks.errorMessage);
        story.see("tasks", tasks.data.simpleOTATaskInfo.stream().map(task -> task.taskStatus).toList());
        story.see("business", refused(client));
        story.see("unknown_key", refused(client("nobody", Story.KEY_SECRET)));
        story.see("wrong_secret", refused(client(Story.KEY_ID, "wrong")));
        story.print();
    }
}
