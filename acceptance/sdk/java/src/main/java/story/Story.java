package story;

import com.google.gson.Gson;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** What both programs share: the environment, the upload, and what is printed. */
final class Story {
    static final String ENDPOINT = System.getenv("SDK_ENDPOINT");
    static final String PROTOCOL = System.getenv("SDK_PROTOCOL");
    static final String KEY_ID = System.getenv("SDK_KEY_ID");
    static final String KEY_SECRET = System.getenv("SDK_KEY_SECRET");
    static final String NAME = System.getenv("SDK_NAME");
    static final String DESCRIPTION = "a b*~/+é'!() 说明";
    static final String[][] TAGS = {{"ring", "1 + 1 = 2 & more"}, {"owner", "我"}};

    private final Map<String, Object> seen = new LinkedHashMap<>();

    /** A call that the service or the gateway must refuse. */
    interface Call {
        Refusal make() throws Exception;
    }

    /** A refusal, and whether the SDK threw it. */
    record Refusal(String code, String message, boolean thrown) {}

    /** Notes what was seen; gives it back. */
    <T> T see(String what, T value) {
        seen.put(what, value);
        return value;
    }

    void print() {
        // As bytes: the console's encoding is not ours to guess.
        byte[] line = (new Gson().newBuilder().serializeNulls().create().toJson(seen) + "\n").getBytes(StandardCharsets.UTF_8);
        System.out.write(line, 0, line.length);
        System.out.flush();
    }

    /** Fails unless a call succeeded. */
    static void expect(Boolean success, String code, String message) {
        if (!Boolean.TRUE.equals(success) || (code != null && !code.isEmpty())) {
            throw new IllegalStateException(code + ": " + message);
        }
    }

    /** Posts the package with a ticket of GenerateOTAUploadURL, as the page's sample does. */
    static void upload(String host, String key, String policy, String keyId, String signature) throws Exception {
        String boundary = "the-boundary";
        String[][] fields = {
            {"key", key}, {"policy", policy}, {"OSSAccessKeyId", keyId}, {"signature", signature}, {"success_action_status", "200"},
        };
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        for (String[] field : fields) {
            body.write(("--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + field[0] + "\"\r\n\r\n" + field[1] + "\r\n").getBytes(StandardCharsets.UTF_8));
        }
        body.write(("--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"package.bin\"\r\n"
            + "Content-Type: application/octet-stream\r\n\r\na package\r\n--" + boundary + "--\r\n").getBytes(StandardCharsets.UTF_8));
        HttpRequest request = HttpRequest.newBuilder(URI.create(host))
            .header("Content-Type", "multipart/form-data; boundary=" + boundary)
            .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray()))
            .build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IllegalStateException("the upload was answered " + answer.statusCode() + ": " + answer.body());
        }
    }

    private Story() {}

    static Story begin() {
        return new Story();
    }
}
