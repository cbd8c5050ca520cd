package story;

import com.aliyuncs.AcsRequest;
import com.aliyuncs.AcsResponse;
import com.aliyuncs.DefaultAcsClient;
import com.aliyuncs.IAcsClient;
import com.aliyuncs.RpcAcsRequest;
import com.aliyuncs.exceptions.ClientException;
import com.aliyuncs.http.FormatType;
import com.aliyuncs.http.ProtocolType;
import com.aliyuncs.iot.model.v20180120.*;
import com.aliyuncs.profile.DefaultProfile;
import java.util.Arrays;
import java.util.List;

/** The smoke story with `com.aliyun:aliyun-java-sdk-iot` (signature in the parameters); answers in SDK_FORMAT. */
public final class ClassicStory {
    private static final String REGION = "cn-shanghai";
    private static final FormatType FORMAT = FormatType.valueOf(System.getenv("SDK_FORMAT"));

    private static IAcsClient client(String id, String secret) {
        DefaultProfile profile = DefaultProfile.getProfile(REGION, id, secret);
        DefaultProfile.addEndpoint(REGION, "Iot", Story.ENDPOINT);
        return new DefaultAcsClient(profile);
    }

    private static <R extends AcsResponse> R send(IAcsClient client, RpcAcsRequest<R> request) throws Exception {
        request.setSysProtocol(ProtocolType.valueOf(Story.PROTOCOL.toUpperCase()));
        request.setAcceptFormat(FORMAT);
        return client.getAcsResponse((AcsRequest<R>) request);
    }

    private static Story.Refusal refused(IAcsClient client) throws Exception {
        QueryOTAJobRequest request = new QueryOTAJobRequest();
        request.setJobId("unknown");
        try {
            QueryOTAJobResponse body = send(client, request);
            return new Story.Refusal(body.getCode(), body.getErrorMessage(), false);
        } catch (ClientException error) {
            return new Story.Refusal(error.getErrCode(), error.getErrMsg(), true);
        }
    }

    private static String uploaded(IAcsClient client) throws Exception {
        GenerateOTAUploadURLRequest request = new GenerateOTAUploadURLRequest();
        request.setFileSuffix("bin");
        GenerateOTAUploadURLResponse body = send(client, request);
        Story.expect(body.getSuccess(), body.getCode(), body.getErrorMessage());
        GenerateOTAUploadURLResponse.Data ticket = body.getData();
        Story.upload(ticket.getHost(), ticket.getKey(), ticket.getPolicy(), ticket.getOSSAccessKeyId(), ticket.getSignature());
        return ticket.getFirmwareUrl();
    }

    private static String product(IAcsClient client) throws Exception {
        CreateProductRequest request = new CreateProductRequest();
        request.setProductName(Story.NAME);
        request.setNodeType(0);
        CreateProductResponse body = send(client, request);
        Story.expect(body.getSuccess(), body.getCode(), body.getErrorMessage());
        return body.getProductKey();
    }

    private static String device(IAcsClient client, String product) throws Exception {
        RegisterDeviceRequest request = new RegisterDeviceRequest();
        request.setProductKey(product);
        request.setDeviceName("device_1");
        RegisterDeviceResponse body = send(client, request);
        Story.expect(body.getSuccess(), body.getCode(), body.getErrorMessage());
        return body.getData().getDeviceName();
    }

    private static String firmware(IAcsClient client, String product) throws Exception {
        CreateOTAFirmwareRequest request = new CreateOTAFirmwareRequest();
        request.setProductKey(product);
        request.setFirmwareName("包(1)-" + Story.NAME);
        request.setFirmwareDesc(Story.DESCRIPTION);
        request.setDestVersion("2.0.0");
        request.setFirmwareUrl(uploaded(client));
        request.setNeedToVerify(false);
        CreateOTAFirmwareResponse body = send(client, request);
        Story.expect(body.getSuccess(), body.getCode(), body.getErrorMessage());
        return body.getData().getFirmwareId();
    }

    private static String staticBatch(IAcsClient client, String product, String device, String firmware) throws Exception {
        CreateOTAStaticUpgradeJobRequest request = new CreateOTAStaticUpgradeJobRequest();
        request.setProductKey(product);
        request.setFirmwareId(firmware);
        request.setTargetSelection("SPECIFIC");
        request.setTargetDeviceNames(List.of(device));
        request.setTags(Arrays.stream(Story.TAGS).map(pair -> {
            CreateOTAStaticUpgradeJobRequest.Tag tag = new CreateOTAStaticUpgradeJobRequest.Tag();
            tag.setKey(pair[0]);
            tag.setValue(pair[1]);
            return tag;
        }).toList());
        CreateOTAStaticUpgradeJobResponse body = send(client, request);
        Story.expect(body.getSuccess(), body.getCode(), body.getErrorMessage());
        return body.getData().getJobId();
    }

    private static String dynamicBatch(IAcsClient client, String product, String firmware) throws Exception {
        CreateOTADynamicUpgradeJobRequest request = new CreateOTADynamicUpgradeJobRequest();
        request.setProductKey(product);
        request.setFirmwareId(firmware);
        request.setSrcVersions(List.of("1.0.0"));
        CreateOTADynamicUpgradeJobResponse body = send(client, request);
        Story.expect(body.getSuccess(), body.getCode(), body.getErrorMessage());
        return body.getData().getJobId();
    }

    private static void cancel(IAcsClient client, String fixed, String standing) throws Exception {
        CancelOTATaskByJobRequest request = new CancelOTATaskByJobRequest();
        request.setJobId(fixed);
        request.setCancelQueuedTask(true);
        CancelOTATaskByJobResponse cancelled = send(client, request);
        Story.expect(cancelled.getSuccess(), cancelled.getCode(), cancelled.getErrorMessage());
        CancelOTAStrategyByJobRequest strategy = new CancelOTAStrategyByJobRequest();
        strategy.setJobId(standing);
        CancelOTAStrategyByJobResponse ended = send(client, strategy);
        Story.expect(ended.getSuccess(), ended.getCode(), ended.getErrorMessage());
    }

    private static void list(Story story, IAcsClient client, String firmware) throws Exception {
        ListOTAJobByFirmwareRequest request = new ListOTAJobByFirmwareRequest();
        request.setFirmwareId(firmware);
        request.setCurrentPage(1);
        request.setPageSize(10);
        ListOTAJobByFirmwareResponse body = send(client, request);
        Story.expect(body.getSuccess(), body.getCode(), body.getErrorMessage());
        var jobs = body.getData();
        story.see("total", body.getTotal());
        story.see("jobs", jobs.stream().map(job -> job.getJobId()).toList());
        var tags = jobs.get(jobs.size() - 1).getTags();
        story.see("tags", tags.stream().map(tag -> List.of(tag.getKey(), tag.getValue())).toList());
        QueryOTAFirmwareRequest query = new QueryOTAFirmwareRequest();
        query.setFirmwareId(firmware);
        QueryOTAFirmwareResponse described = send(client, query);
        Story.expect(described.getSuccess(), described.getCode(), described.getErrorMessage());
        story.see("description", described.getFirmwareInfo().getFirmwareDesc());
    }

    public static void main(String[] arguments) throws Exception {
        Story story = Story.begin();
        IAcsClient client = client(Story.KEY_ID, Story.KEY_SECRET);
        String product = story.see("product", product(client));
        String device = story.see("device", device(client, product));
        String firmware = story.see("firmware", firmware(client, product));
        String fixed = story.see("static", staticBatch(client, product, device, firmware));
        String standing = story.see("dynamic", dynamicBatch(client, product, firmware));
        list(story, client, firmware);
        cancel(client, fixed, standing);
        ListOTATaskByJobRequest request = new ListOTATaskByJobRequest();
        request.setJobId(fixed);
        request.setCurrentPage(1);
        request.setPageSize(10);
        ListOTATaskByJobResponse tasks = send(client, request);
        Story.expect(tasks.getSuccess(), tasks.getCode(), tasks.getErrorMessage());
        story.see("tasks", tasks.getData().stream().map(task -> task.getTaskStatus()).toList());
        story.see("business", refused(client));
        story.see("unknown_key", refused(client("nobody", Story.KEY_SECRET)));
        story.see("wrong_secret", refused(client(Story.KEY_ID, "wrong")));
        story.print();
    }
}
